/* dense.c - products of prepared activations with weights in panels.
 *
 * A product is divided over the lanes by panels of outputs, in the shares by which matrix_create
 * first touched them; of several products of a call a lane does its shares one after the other, so
 * that lanes wait for each other once. A lane goes through its panels in groups, a group's columns
 * in spans, and a span's activations in tiles:
 *     decode (one tile): a group is one panel or few, so that memory is read in few long lines, once;
 *     prefill: a span of a group stays in the second-level cache while all tiles pass. Quantized
 *              activations: tile by tile, whose span (20 KiB) stays near while the group passes.
 *              Floats: a pass of a few tiles goes past one panel after the other, whose span (16 KiB
 *              of F16) stays in the first-level cache. The last panel of a pass fetches the next
 *              pass's tiles, which may come from memory: those of 8192 columns are 16 MiB.
 * Where the columns are cut in segments, a group's columns are gone through segment by segment;
 * sums that wait for their sibling, or for the next span, lie in the lane's own memory, at most one
 * for each level of the tree. The sums and their order are in variant.h; nothing here can change
 * them, because a tile's height and a group's size are not part of that order, and spans are.
 *
 * Rows that choose their matrices (experts) come in groups: tiles end with a group of rows. */
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

/* Prepared rows [first, first + n) that are multiplied by one matrix, and so make tiles
 * together. */
struct group {
    uint32_t first, n;
};

static struct group group_at(const struct row_groups *groups, uint32_t i)
{
    const uint32_t first = i > 0 ? groups->end[i - 1] : 0;
    return (struct group){first, groups->end[i] - first};
}

static uint32_t group_tiles(const struct device *device, enum cpu_kind kind, struct group group)
{
    return tile_count(group.n, device->variant->products[kind].tile_rows);
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
    const struct row_groups *groups;
    enum cpu_kind kind;
};

/* Tiles [begin, end) of a group, each a tile's columns within one piece of CPU_QUANT_SPAN
 * columns. */
static void prepare_pieces(const struct prepare_work *work, struct group group, size_t n_spans,
                           size_t begin, size_t end)
{
    const struct device *d = work->device;
    const size_t n_columns = d->x_columns;
    for (size_t i = begin; i < end; i++) {
        const size_t column = i % n_spans * CPU_QUANT_SPAN, left = n_columns - column;
        const size_t n = left < CPU_QUANT_SPAN ? left : CPU_QUANT_SPAN;
        uint32_t row, n_rows;
        tile_rows(group.n, group_tiles(d, work->kind, group), (uint32_t)(i / n_spans), &row,
                  &n_rows);
        row += group.first;
        d->variant->products[work->kind].pack(tile_at(d, work->kind, row, n_rows, column),
                                              work->x + row * n_columns + column, n_columns, n_rows,
                                              n);
    }
}

static void prepare_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct prepare_work *work = context;
    const size_t n_columns = work->device->x_columns;
    const size_t n_spans = n_columns / CPU_QUANT_SPAN + (n_columns % CPU_QUANT_SPAN != 0);
    size_t n = 0, begin, end;

    for (uint32_t g = 0; g < work->groups->n; g++)
        n += group_tiles(work->device, work->kind, group_at(work->groups, g)) * n_spans;
    thread_pool_share(n, 1, lane, n_lanes, &begin, &end);
    for (uint32_t g = 0; g < work->groups->n && begin < end; g++) {
        const struct group group = group_at(work->groups, g);
        const size_t of_group = group_tiles(work->device, work->kind, group) * n_spans;
        if (begin < of_group)
            prepare_pieces(work, group, n_spans, begin, end < of_group ? end : of_group);
        begin = begin > of_group ? begin - of_group : 0;
        end = end > of_group ? end - of_group : 0;
    }
}

static void prepare_groups(struct device *device, const float *x, const struct row_groups *groups,
                           uint32_t n_columns, uint32_t types)
{
    const uint32_t n_rows = groups->n > 0 ? groups->end[groups->n - 1] : 0;
    assert(n_rows <= device->max_rows);
    device->x_rows = n_rows;
    device->x_columns = n_columns;
    device->x_types = types;
    bool wanted[CPU_KINDS] = {false};
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        if (types >> weight_types[t] & 1)
            wanted[kind_of(device, weight_types[t])] = true;
    for (enum cpu_kind kind = 0; kind < CPU_KINDS; kind++) {
        struct prepare_work work = {device, x, groups, kind};
        assert(!wanted[kind] || n_columns % layouts[kind].unit == 0);
        assert(n_rows * dense_activation_bytes(kind, n_columns) <= device->x_bytes[kind] ||
               !wanted[kind]);
        if (wanted[kind] && n_rows > 0)
            device_run(device, (size_t)n_rows * n_columns, DEVICE_ALONE, prepare_lane, &work);
    }
}

void dense_prepare(struct device *device, const float *x, uint32_t n_rows, uint32_t n_columns,
                   uint32_t types)
{
    prepare_groups(device, x, &(struct row_groups){1, &n_rows}, n_columns, types);
}

/* One product. */
struct matmul_work {
    const struct device *device;
    struct group rows;
    float *y; /* where the first of them goes */
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
 * next pass, the next span or the next group of panels. */
static const void *next_tile(const struct matmul_work *work, enum cpu_kind kind, uint32_t tile,
                             size_t column, uint32_t n)
{
    const struct device *device = work->device;
    const uint32_t n_tiles = group_tiles(device, kind, work->rows);
    const uint32_t pass_tiles = layouts[kind].pass_tiles;
    uint32_t row, n_rows, next = tile + pass_tiles;
    if (next >= n_tiles) {
        next = tile % pass_tiles;
        column = column + n < device->x_columns ? column + n : 0;
    }
    tile_rows(work->rows.n, n_tiles, next, &row, &n_rows);
    return tile_at(device, kind, work->rows.first + row, n_rows, column);
}

/* `product` names the weights; here every tile of the activations passes by. to = before + the
 * products; before->y is NULL for the first span of a sum. */
static void multiply_tiles(const struct matmul_work *work, struct cpu_product *product,
                           const struct target *to, const struct target *before, size_t column)
{
    const struct device *d = work->device;
    const enum cpu_kind kind = kind_of(d, product->type);
    const uint32_t n_tiles = group_tiles(d, kind, work->rows), n_outputs = product->n_outputs;
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
                tile_rows(work->rows.n, n_tiles, tile, &row, &product->n_rows);
                product->y = to->y + row * to->stride + output;
                product->before =
                    before->y != NULL ? before->y + row * before->stride + output : NULL;
                product->x = tile_at(d, kind, work->rows.first + row, product->n_rows, column);
                product->next_x = n_tiles == 1 || output + pass < n_outputs
                                      ? product->x
                                      : next_tile(work, kind, tile, column, product->n);
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

static void add_target(const struct matmul_work *work, const struct target *to,
                       const struct target *from, uint32_t n_outputs)
{
    for (size_t row = 0; row < work->rows.n; row++)
        work->device->variant->add(to->y + row * to->stride, from->y + row * from->stride,
                                   n_outputs);
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
            add_target(work, &pending[depth - 2], &pending[depth - 1], n_outputs);
    }
    for (; depth > 1; depth--) /* not a power of two: what is left has no sibling */
        add_target(work, &pending[depth - 2], &pending[depth - 1], n_outputs);
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

/* Panels [begin, end) of the matrix. */
static void multiply_share(const struct matmul_work *work, size_t begin, size_t end, uint32_t lane)
{
    const struct matrix *w = work->weights;
    const enum cpu_kind kind = kind_of(work->device, w->type);
    const size_t group = group_tiles(work->device, kind, work->rows) == 1
                             ? layouts[kind].decode_panels
                             : PREFILL_GROUP;
    for (size_t panel = begin; panel < end; panel += group) {
        const size_t last = (panel + group < end ? panel + group : end) * PANEL_ROWS;
        const size_t n_outputs = (last < w->n_rows ? last : w->n_rows) - panel * PANEL_ROWS;
        multiply_panels(work, panel, (uint32_t)n_outputs, lane);
    }
}

/* As thread_pool_share, but for the odd panels: they go to the lanes behind those that had the odd
 * ones of the n_before panels so far. So a lane reads what it was the first to touch, or its
 * neighbour, and has its share of all matrices together also where each has fewer panels than there
 * are lanes. */
static void share_panels(size_t n, size_t n_before, uint32_t lane, uint32_t n_lanes, size_t *begin,
                         size_t *end)
{
    const size_t each = n / n_lanes, extra = n % n_lanes, turn = n_before % n_lanes;
    size_t at[2];
    for (uint32_t i = 0; i < 2; i++) {
        const size_t lanes = lane + i; /* that come before this place */
        const size_t behind = lanes > turn ? lanes - turn : 0;
        const size_t again = turn + extra > n_lanes ? turn + extra - n_lanes : 0;
        at[i] = lanes * each + (behind < extra ? behind : extra) + (lanes < again ? lanes : again);
    }
    *begin = at[0];
    *end = at[1];
}

/* The lane's share of one of several products, before which there were *n_before panels. */
static void multiply_lane(const struct matmul_work *work, size_t *n_before, uint32_t lane,
                          uint32_t n_lanes)
{
    const size_t n = panel_count(work->weights->n_rows);
    size_t begin, end;
    share_panels(n, *n_before, lane, n_lanes, &begin, &end);
    *n_before += n;
    if (work->weights->n_rows > 1)
        multiply_share(work, begin, end, lane);
    else if (begin < end)
        multiply_vector(work);
}

struct products_work {
    const struct device *device;
    const struct product *products;
    uint32_t n;
};

static void products_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct products_work *work = context;
    const struct group rows = {0, work->device->x_rows};
    size_t n_before = 0;
    for (uint32_t i = 0; i < work->n; i++) {
        const struct product *p = &work->products[i];
        multiply_lane(&(struct matmul_work){work->device, rows, p->y, p->y_stride, p->weights},
                      &n_before, lane, n_lanes);
    }
}

/* Multiplications of rows by a matrix. */
static size_t product_work(uint32_t n_rows, const struct matrix *weights)
{
    return (size_t)n_rows * weights->n_rows * weights->n_columns;
}

void dense_matmul(struct device *device, const struct product *products, uint32_t n)
{
    struct products_work work = {device, products, n};
    size_t n_multiplied = 0;
    if (device->x_rows == 0)
        return;
    for (uint32_t i = 0; i < n; i++) {
        const struct matrix *w = products[i].weights;
        assert(device->x_types >> w->type & 1 && device->x_columns == w->n_columns);
        assert(w->n_segments <= MATRIX_SEGMENTS);
        n_multiplied += product_work(device->x_rows, w);
    }
    device_run(device, n_multiplied, ALONE_PRODUCT, products_lane, &work);
}

/* ---- groups of rows, each with a matrix of its own ------------------------------------------- */

struct groups_work {
    const struct device *device;
    const struct row_groups *groups;
    const struct group_product *products;
    uint32_t n_products;
};

static void groups_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct groups_work *work = context;
    size_t n_before = 0;
    for (uint32_t g = 0; g < work->groups->n; g++)
        for (uint32_t i = 0; i < work->n_products; i++) {
            const struct group_product *product = &work->products[i];
            const struct group rows = group_at(work->groups, g);
            const struct matmul_work one = {work->device, rows,
                                            product->y + rows.first * product->y_stride,
                                            product->y_stride, product->weights[g]};
            multiply_lane(&one, &n_before, lane, n_lanes);
        }
}

void dense_multiply_groups(struct device *device, const float *x, const struct row_groups *groups,
                           uint32_t n_columns, const struct group_product *products,
                           uint32_t n_products)
{
    struct groups_work work = {device, groups, products, n_products};
    uint32_t types = 0;
    size_t n = 0;
    for (uint32_t g = 0; g < groups->n; g++)
        for (uint32_t i = 0; i < n_products; i++) {
            const struct matrix *w = products[i].weights[g];
            assert(w->n_columns == n_columns && w->n_segments <= MATRIX_SEGMENTS);
            types |= 1u << w->type;
            n += product_work(group_at(groups, g).n, w);
        }
    prepare_groups(device, x, groups, n_columns, types);
    if (groups->n > 0)
        device_run(device, n, ALONE_PRODUCT, groups_lane, &work);
    device->x_types = 0; /* tiles of groups are none for matmul */
}
