/* dense.c - products of prepared activations with weights in panels.
 *
 * A product is divided over the lanes by panels of outputs, in the shares by which matrix_create
 * first touched them. A lane goes through its panels in groups, a group's columns in spans, and a
 * span's activations in tiles:
 *     decode (one tile): a group is one panel or few, so that memory is read in few long lines, once;
 *     prefill: a span of a group stays in the second-level cache while all tiles pass. Quantized
 *              activations: tile by tile, whose span (20 KiB) stays near while the group passes.
 *              Floats: a pass of a few tiles goes past one panel after the other, whose span (16 KiB
 *              of F16) stays in the first-level cache. The last panel of a pass fetches the next
 *              pass's tiles, which may come from memory: those of 8192 columns are 16 MiB.
 * Where the columns are cut in segments, a group's columns are gone through segment by segment;
 * sums that wait for their sibling, or for the next span, lie in the lane's own memory, at most one
 * for each level of the tree. The sums and their order are in variant.h; nothing here can change
 * them, because a tile's height and a group's size are not part of that order, and spans are. */
#include "kernels/cpu/device.h"
#include "kernels/cpu/panel.h"

#include <assert.h>

enum {
    PREFILL_GROUP = DENSE_GROUP_OUTPUTS / PANEL_ROWS, /* panels */
    ALONE_PRODUCT = 131072, /* multiplications that are not worth waking lanes for */
};

/* How activations of a kind lie in memory (variant.h): `unit` columns of a row take unit_bytes. In
 * prefill pass_tiles tiles go past pass_panels panels before both move on. */
static const struct {
    uint32_t span, unit;
    size_t unit_bytes;
    uint32_t decode_panels; /* a group in decode: floats need several to hide the latency */
    uint32_t pass_tiles, pass_panels;
} layouts[CPU_KINDS] = {
    [CPU_FLOAT] = {CPU_FLOAT_SPAN, 1, sizeof(float), 4, 10, 1},
    [CPU_QUANT] = {CPU_QUANT_SPAN, PANEL_PIECE, CPU_X_BLOCK_BYTES, 1, 1, PREFILL_GROUP},
    [CPU_PAIRS] = {CPU_FLOAT_SPAN, 2, 2 * sizeof(uint16_t), 4, 10, 1},
};

/* With the columns that were prepared last. */
static enum cpu_kind kind_of(const struct device *device, enum weight_type type)
{
    return panel_quantized(type) ? CPU_QUANT
           : device->variant->products[CPU_PAIRS].product != NULL && device->x_columns % 2 == 0
               ? CPU_PAIRS
               : CPU_FLOAT;
}

size_t dense_activation_bytes(enum cpu_kind kind, uint32_t n_columns)
{
    return (n_columns / layouts[kind].unit + 1) * layouts[kind].unit_bytes;
}

/* Rows are dealt to as few tiles as are needed, as evenly as possible: 13 rows are 7 and 6. */
static uint32_t tile_count(uint32_t n_rows, uint32_t height)
{
    return n_rows / height + (n_rows % height != 0);
}

static void tile_rows(uint32_t n_rows, uint32_t n_tiles, uint32_t tile, uint32_t *begin,
                      uint32_t *n)
{
    const uint32_t each = n_rows / n_tiles, extra = n_rows % n_tiles;
    *begin = tile * each + (tile < extra ? tile : extra);
    *n = each + (tile < extra);
}

static uint32_t device_tiles(const struct device *device, enum cpu_kind kind)
{
    return tile_count(device->x_rows, device->variant->products[kind].tile_rows);
}

/* Where the columns from `column` on are, in the tile of n_rows rows that begins with `row`. */
static uint8_t *tile_at(const struct device *device, enum cpu_kind kind, uint32_t row,
                        uint32_t n_rows, size_t column)
{
    const size_t numbers = (size_t)row * device->x_columns + column * n_rows;
    return (uint8_t *)device->x[kind] + numbers / layouts[kind].unit * layouts[kind].unit_bytes;
}

struct prepare_work {
    const struct device *device;
    const float *x;
    enum cpu_kind kind;
};

/* A piece of work is a tile's columns within one piece of CPU_QUANT_SPAN columns. */
static void prepare_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct prepare_work *work = context;
    const struct device *d = work->device;
    const size_t n_columns = d->x_columns;
    const size_t n_spans = n_columns / CPU_QUANT_SPAN + (n_columns % CPU_QUANT_SPAN != 0);
    const uint32_t n_tiles = device_tiles(d, work->kind);
    size_t begin, end;

    thread_pool_share(n_tiles * n_spans, 1, lane, n_lanes, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const size_t column = i % n_spans * CPU_QUANT_SPAN, left = n_columns - column;
        const size_t n = left < CPU_QUANT_SPAN ? left : CPU_QUANT_SPAN;
        uint32_t row, n_rows;
        tile_rows(d->x_rows, n_tiles, (uint32_t)(i / n_spans), &row, &n_rows);
        d->variant->products[work->kind].pack(tile_at(d, work->kind, row, n_rows, column),
                                              work->x + row * n_columns + column, n_columns, n_rows,
                                              n);
    }
}

void dense_prepare(struct device *device, const float *x, uint32_t n_rows, uint32_t n_columns,
                   uint32_t types)
{
    assert(n_rows <= device->max_rows);
    device->x_rows = n_rows;
    device->x_columns = n_columns;
    device->x_types = types;
    bool wanted[CPU_KINDS] = {false};
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        if (types >> weight_types[t] & 1)
            wanted[kind_of(device, weight_types[t])] = true;
    for (enum cpu_kind kind = 0; kind < CPU_KINDS; kind++) {
        struct prepare_work work = {device, x, kind};
        assert(!wanted[kind] || n_columns % layouts[kind].unit == 0);
        assert(n_rows * dense_activation_bytes(kind, n_columns) <= device->x_bytes[kind] ||
               !wanted[kind]);
        if (wanted[kind] && n_rows > 0)
            device_run(device, (size_t)n_rows * n_columns, DEVICE_ALONE, prepare_lane, &work);
    }
}

struct matmul_work {
    const struct device *device;
    float *y;
    size_t y_stride;
    const struct matrix *weights;
};

/* Where sums of one group of outputs go: y itself, or a lane's memory. */
struct target {
    float *y;
    size_t stride;
};

/* Piece `level` of the lane's memory for sums: one for each level of the tree, one for spans. */
static struct target lane_target(const struct device *device, uint32_t lane, uint32_t level)
{
    const size_t piece = (size_t)lane * (DENSE_LEVELS + 1) + level;
    return (struct target){device->sums + piece * device->max_rows * DENSE_GROUP_OUTPUTS,
                           DENSE_GROUP_OUTPUTS};
}

/* What takes the place of a tile's span of n columns from `column` on when its pass is over: in the
 * next pass, the next span or the next group. */
static const void *next_tile(const struct device *device, enum cpu_kind kind, uint32_t tile,
                             size_t column, uint32_t n)
{
    const uint32_t n_tiles = device_tiles(device, kind), pass_tiles = layouts[kind].pass_tiles;
    uint32_t row, n_rows, next = tile + pass_tiles;
    if (next >= n_tiles) {
        next = tile % pass_tiles;
        column = column + n < device->x_columns ? column + n : 0;
    }
    tile_rows(device->x_rows, n_tiles, next, &row, &n_rows);
    return tile_at(device, kind, row, n_rows, column);
}

/* `product` names the weights; here every tile of the activations passes by. to = before + the
 * products; before->y is NULL for the first span of a sum. */
static void multiply_tiles(const struct matmul_work *work, struct cpu_product *product,
                           const struct target *to, const struct target *before, size_t column)
{
    const struct device *d = work->device;
    const enum cpu_kind kind = kind_of(d, product->type);
    const uint32_t n_tiles = device_tiles(d, kind), n_outputs = product->n_outputs;
    const uint32_t pass = n_tiles > 1 ? layouts[kind].pass_panels * PANEL_ROWS : n_outputs;
    const uint8_t *weights = product->weights;

    product->y_stride = to->stride;
    product->before_stride = before->stride;
    for (uint32_t first = 0; first < n_tiles; first += layouts[kind].pass_tiles)
        for (uint32_t output = 0; output < n_outputs; output += pass) {
            product->weights = weights + output / PANEL_ROWS * product->panel_bytes;
            product->n_outputs = n_outputs - output < pass ? n_outputs - output : pass;
            for (uint32_t tile = first; tile < n_tiles && tile - first < layouts[kind].pass_tiles;
                 tile++) {
                uint32_t row;
                tile_rows(d->x_rows, n_tiles, tile, &row, &product->n_rows);
                product->y = to->y + row * to->stride + output;
                product->before =
                    before->y != NULL ? before->y + row * before->stride + output : NULL;
                product->x = tile_at(d, kind, row, product->n_rows, column);
                product->next_x = n_tiles == 1 || output + pass < n_outputs
                                      ? product->x
                                      : next_tile(d, kind, tile, column, product->n);
                d->variant->products[kind].product(product);
            }
        }
}

/* The sum over columns [begin, end), for n_outputs outputs from panel `panel` on. Between spans it
 * waits in the lane's memory, where the rows of a group lie side by side. */
static void multiply_columns(const struct matmul_work *work, const struct target *target,
                             size_t panel, uint32_t n_outputs, size_t begin, size_t end,
                             uint32_t lane)
{
    const struct matrix *w = work->weights;
    const enum cpu_kind kind = kind_of(work->device, w->type);
    const size_t bytes = panel_bytes(w->type, w->n_columns), span = layouts[kind].span;
    const uint8_t *weights = (const uint8_t *)w->data + panel * bytes;
    const struct target waiting = lane_target(work->device, lane, DENSE_LEVELS);
    struct target before = {NULL, 0};

    assert((begin | end) % layouts[kind].unit == 0);
    for (size_t column = begin; column < end; column += span) {
        const size_t left = end - column;
        const struct target *to = left <= span ? target : &waiting;
        struct cpu_product product = {.type = w->type,
                                      .n_outputs = n_outputs,
                                      .weights = weights + panel_offset(w->type, column),
                                      .panel_bytes = bytes,
                                      .n = (uint32_t)(left < span ? left : span)};
        multiply_tiles(work, &product, to, &before, column);
        before = waiting;
    }
}

static void add_target(const struct device *device, const struct target *to,
                       const struct target *from, uint32_t n_outputs)
{
    for (size_t row = 0; row < device->x_rows; row++)
        device->variant->add(to->y + row * to->stride, from->y + row * from->stride, n_outputs);
}

/* Segment by segment, like a binary counter: two finished siblings are added at once. */
static void multiply_panels(const struct matmul_work *work, size_t panel, uint32_t n_outputs,
                            uint32_t lane)
{
    const struct matrix *w = work->weights;
    const struct device *d = work->device;
    const uint32_t n_segments = w->n_segments > 1 ? w->n_segments : 1;
    struct target pending[DENSE_LEVELS + 1] = {
        {work->y + panel * PANEL_ROWS, work->y_stride},
    };
    for (uint32_t i = 0; i < DENSE_LEVELS; i++)
        pending[i + 1] = lane_target(d, lane, i);
    uint32_t depth = 0;
    for (uint32_t i = 0; i < n_segments; i++) {
        multiply_columns(work, &pending[depth++], panel, n_outputs,
                         i == 0 ? 0 : w->segment_end[i - 1],
                         w->n_segments > 1 ? w->segment_end[i] : w->n_columns, lane);
        for (uint32_t done = i + 1; done % 2 == 0; done /= 2, depth--)
            add_target(d, &pending[depth - 2], &pending[depth - 1], n_outputs);
    }
    for (; depth > 1; depth--) /* not a power of two: what is left has no sibling */
        add_target(d, &pending[depth - 2], &pending[depth - 1], n_outputs);
}

/* A matrix of one row is no panel in memory: it becomes one here, span by span; it has no segments.
 */
static void multiply_vector(const struct matmul_work *work)
{
    const struct matrix *w = work->weights;
    const struct target target = {work->y, work->y_stride}, none = {NULL, 0};
    const size_t span = layouts[kind_of(work->device, w->type)].span;
    _Alignas(PANEL_LINE_BYTES) uint8_t panel[CPU_FLOAT_SPAN * PANEL_ROWS * sizeof(float)];

    for (size_t column = 0; column < w->n_columns; column += span) {
        const size_t left = w->n_columns - column, n = left < span ? left : span;
        struct cpu_product product = {.type = w->type,
                                      .n_outputs = 1,
                                      .weights = panel,
                                      .panel_bytes = panel_bytes(w->type, (uint32_t)n),
                                      .n = (uint32_t)n};
        assert(product.panel_bytes <= sizeof(panel));
        panel_pack(panel, w->type,
                   (const uint8_t *)w->data + weight_row_bytes(w->type, (uint32_t)column), 0, 1,
                   (uint32_t)n);
        multiply_tiles(work, &product, &target, column > 0 ? &target : &none, column);
    }
}

static void matmul_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct matmul_work *work = context;
    const struct matrix *w = work->weights;
    const enum cpu_kind kind = kind_of(work->device, w->type);
    const size_t group =
        device_tiles(work->device, kind) == 1 ? layouts[kind].decode_panels : PREFILL_GROUP;
    size_t begin, end;

    thread_pool_share(panel_count(w->n_rows), 1, lane, n_lanes, &begin, &end);
    for (size_t panel = begin; panel < end; panel += group) {
        const size_t last = (panel + group < end ? panel + group : end) * PANEL_ROWS;
        const size_t n_outputs = (last < w->n_rows ? last : w->n_rows) - panel * PANEL_ROWS;
        multiply_panels(work, panel, (uint32_t)n_outputs, lane);
    }
}

void dense_matmul(struct device *device, float *y, size_t y_stride, const struct matrix *weights)
{
    struct matmul_work work = {device, y, y_stride, weights};

    assert(device->x_types >> weights->type & 1);
    if (device->x_rows == 0)
        return;
    assert(device->x_columns == weights->n_columns);
    assert(weights->n_segments <= MATRIX_SEGMENTS);
    if (weights->n_rows == 1)
        multiply_vector(&work);
    else
        device_run(device, (size_t)device->x_rows * weights->n_rows * weights->n_columns,
                   ALONE_PRODUCT, matmul_lane, &work);
}
