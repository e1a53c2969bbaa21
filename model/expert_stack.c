/* expert_stack.c - count the experts of each stack, then give each its place. */
#include "model/expert_stack.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64 };

struct expert_stack {
    struct model_tensor tensor;
    char name[NAME_BYTES];
    const struct model_tensor **experts; /* [tensor.dims[2]] */
};

/* "blk.3.ffn_gate.5.weight": the name of its stack, and 5. */
static bool parse_name(const char *name, char stack[NAME_BYTES], uint32_t *expert)
{
    static const char *const products[] = {"gate", "up", "down"};
    unsigned layer;
    int at = 0;
    if (sscanf(name, "blk.%6u.ffn_%n", &layer, &at) != 1 || at == 0)
        return false;
    for (size_t i = 0; i < sizeof(products) / sizeof(products[0]); i++) {
        char canonical[NAME_BYTES];
        unsigned number;
        const size_t length = strlen(products[i]);
        if (strncmp(name + at, products[i], length) != 0 ||
            sscanf(name + at + length, ".%6u.", &number) != 1)
            continue;
        snprintf(canonical, sizeof(canonical), "blk.%u.ffn_%s.%u.weight", layer, products[i],
                 number);
        if (strcmp(name, canonical) != 0) /* numbers with zeros before, another ending */
            return false;
        snprintf(stack, NAME_BYTES, "blk.%u.ffn_%s_exps.weight", layer, products[i]);
        *expert = number;
        return true;
    }
    return false;
}

static enum status no_memory(const char *path, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its experts", path);
}

/* The stack of that name, a new one if there is none. NULL: no memory. */
static struct expert_stack *stack_named(struct expert_stacks *stacks, const char *name)
{
    const uint32_t found = string_table_find(&stacks->by_name, name, strlen(name));
    if (found != STRING_TABLE_NONE)
        return &stacks->stacks[found];
    struct expert_stack *stack = &stacks->stacks[stacks->n];
    snprintf(stack->name, sizeof(stack->name), "%s", name);
    stack->tensor.name = stack->name;
    if (string_table_add(&stacks->by_name, stack->name, strlen(stack->name), (uint32_t)stacks->n) !=
        stacks->n)
        return NULL;
    stacks->n++;
    return stack;
}

static enum status count_experts(struct expert_stacks *stacks, const struct model_tensor **tensors,
                                 size_t n, const char *path, struct error *error)
{
    for (size_t i = 0; i < n; i++) {
        char name[NAME_BYTES];
        uint32_t expert;
        if (!parse_name(tensors[i]->name, name, &expert))
            continue;
        struct expert_stack *stack = stack_named(stacks, name);
        if (stack == NULL)
            return no_memory(path, error);
        stack->tensor.dims[2]++;
    }
    return STATUS_OK;
}

/* One more expert of a stack, which has its shape from the first that comes. */
static enum status place_expert(struct expert_stack *stack, const struct model_tensor *tensor,
                                uint32_t expert, const char *path, struct error *error)
{
    struct model_tensor *whole = &stack->tensor;
    if (expert < whole->dims[2] && stack->experts[expert] != NULL)
        return error_set(error, STATUS_INVALID, "%s: tensor %s is in two of its parts", path,
                         tensor->name);
    if (expert >= whole->dims[2])
        return error_set(error, STATUS_INVALID,
                         "%s: %llu tensors of experts, and one of them is %s: an expert is missing",
                         path, (unsigned long long)whole->dims[2], tensor->name);
    if (whole->n_dims == 0) {
        whole->n_dims = 3;
        whole->type = tensor->type;
        whole->dims[0] = tensor->dims[0];
        whole->dims[1] = tensor->dims[1];
        whole->dims[3] = 1;
    }
    if (tensor->n_dims != 2 || tensor->type != whole->type || tensor->dims[0] != whole->dims[0] ||
        tensor->dims[1] != whole->dims[1])
        return error_set(error, STATUS_INVALID,
                         "%s: tensor %s has another type or shape than other experts' of its layer",
                         path, tensor->name);
    stack->experts[expert] = tensor;
    whole->n_bytes += tensor->n_bytes; /* they lie in files, so this cannot overflow */
    return STATUS_OK;
}

enum status expert_stacks_make(struct expert_stacks *stacks, const struct model_tensor **tensors,
                               size_t *n, const char *path, struct error *error)
{
    size_t n_left = 0;
    if ((stacks->stacks = calloc(*n + 1, sizeof(*stacks->stacks))) == NULL)
        return no_memory(path, error);
    enum status status = count_experts(stacks, tensors, *n, path, error);
    for (size_t i = 0; i < stacks->n && status == STATUS_OK; i++) {
        struct expert_stack *stack = &stacks->stacks[i];
        stack->experts = calloc(stack->tensor.dims[2], sizeof(*stack->experts));
        if (stack->experts == NULL)
            status = no_memory(path, error);
    }
    for (size_t i = 0; i < *n && status == STATUS_OK; i++) {
        const struct model_tensor *tensor = tensors[i];
        char name[NAME_BYTES];
        uint32_t expert;
        if (!parse_name(tensor->name, name, &expert)) {
            tensors[n_left++] = tensor;
            continue;
        }
        struct expert_stack *stack =
            &stacks->stacks[string_table_find(&stacks->by_name, name, strlen(name))];
        if (stack->tensor.n_dims == 0)
            tensors[n_left++] = &stack->tensor;
        status = place_expert(stack, tensor, expert, path, error);
    }
    *n = status == STATUS_OK ? n_left : *n;
    return status;
}

void expert_stacks_free(struct expert_stacks *stacks)
{
    for (size_t i = 0; i < stacks->n; i++)
        free(stacks->stacks[i].experts);
    free(stacks->stacks);
    string_table_free(&stacks->by_name);
    *stacks = (struct expert_stacks){0};
}

const struct model_tensor *expert_stacks_find(const struct expert_stacks *stacks,
                                              const struct model_tensor *tensor, uint64_t expert)
{
    const uint32_t index = string_table_find(&stacks->by_name, tensor->name, strlen(tensor->name));
    if (index == STRING_TABLE_NONE || tensor != &stacks->stacks[index].tensor)
        return NULL;
    return stacks->stacks[index].experts[expert];
}
