/* kernels/columns.h: a matrix cut by columns, losslessly, so that each column can move on its own.
 *
 * The down matrix of a feed-forward has `rows` outputs and `cols` neurons, and its blocks lie along the neurons. The bits of a block are
 * divided: what belongs to one neuron (its integer, or its float) goes to that neuron's column; what a block shares (scales, minima, packed
 * 6-bit scales) is the meta data, which stays together. Nothing is decoded or rounded: join gives the matrix back byte for byte.
 *
 * Column of one neuron. A float format has one plane, row r at r * size. An integer is cut into planes of 8, 4, 2 or 1 bits, one plane after
 * the other, the integer's lowest bits first. In a plane rows come in groups of 32, the last padded with zeros; group g:
 *     8 bits: byte 32 g + i is row 32 g + i
 *     4 bits: byte 16 g + i is row 32 g + i in its low half, row 32 g + 16 + i in its high half
 *     2 bits: byte  8 g + i is rows 32 g + i + 8 k at bits 2 k
 *     1 bit:  byte  4 g + i is rows 32 g + i + 4 k at bit k
 * So a column of one plane can be used from row 32 g on without a look at what comes before.
 * Meta data: [block][word][row], the 16-bit words of a block that are not integers, in the order in which they lie in it. Rows of meta data
 * are not padded.
 *
 *     F32, F16, BF16    no words                        Q4_0, Q5_0, Q8_0, IQ4_NL    scale
 *     Q4_1, Q5_1        scale, minimum                  K-quants, IQ4_XS            the block's scales and minima, packed as they are
 *     planes: 5 bits are 4 + 1, 6 bits 4 + 2, 3 bits 2 + 1
 *
 * Threads: pure functions over the caller's memory. */
#ifndef SL_KERNELS_COLUMNS_H
#define SL_KERNELS_COLUMNS_H

#include "core/format.h"

#define SL_COLUMN_GROUP 32 /* rows whose bits lie together */

/* Neurons of a block, 1 for float types; 0 when the type cannot be cut, and then nothing below may be asked about it. */
uint32_t sl_column_block(uint32_t type);
/* 16-bit words that a block of the type shares. */
uint32_t sl_column_meta_words(uint32_t type);
/* Bytes of one neuron's column. */
size_t sl_column_bytes(uint32_t type, uint32_t rows);
/* Bytes of the meta data of a whole matrix; cols is a multiple of the block. */
size_t sl_column_meta_bytes(uint32_t type, uint32_t rows, uint32_t cols);

/* Cuts rows [first_row, first_row + row_count) of a matrix of rows x cols, which lie at `matrix` as in the file. columns[j] is the whole
 * column of neuron j, meta the whole matrix's; what belongs to other rows is left alone. first_row is a multiple of 32, and row_count too
 * unless it reaches the last row. */
void sl_columns_split(uint32_t type, const uint8_t *matrix, uint32_t rows, uint32_t cols, uint32_t first_row, uint32_t row_count,
                      uint8_t *const *columns, uint8_t *meta);
/* The reverse: writes those rows to `matrix`. */
void sl_columns_join(uint32_t type, const uint8_t *const *columns, const uint8_t *meta, uint32_t rows, uint32_t cols, uint32_t first_row,
                     uint32_t row_count, uint8_t *matrix);
/* The reverse for one block of neurons in rows [first_row, first_row + 32), or up to the last one: row first_row + r is written to
 * to + r * stride. `columns` are the block's alone. Not for float types. */
void sl_columns_join_block(uint32_t type, const uint8_t *const *columns, const uint8_t *meta, uint32_t rows, uint32_t cols, uint32_t block,
                           uint32_t first_row, uint8_t *to, size_t stride);

#endif
