/* test_protocol.c - what all readers of a message rely on, whoever wrote it. */
#include "proto/longspan.pb-c.h"

#include "tests/cmocka.h"

#include <stdbool.h>
#include <string.h>

enum { FIELDS = 3, FORMS = 3 }; /* of a message; ways to write a field */

/* A length-prefixed field: empty, with a number, or with a text; or a number where it is one. */
static size_t write_field(uint8_t *to, const ProtobufCFieldDescriptor *field, unsigned form)
{
    static const uint8_t contents[FORMS][4] = {{0}, {2, 1 << 3, 1}, {3, 2 << 3 | 2, 1, 'x'}};
    const bool prefixed = field->type == PROTOBUF_C_TYPE_MESSAGE ||
                          field->type == PROTOBUF_C_TYPE_STRING ||
                          field->type == PROTOBUF_C_TYPE_BYTES;
    size_t n = 0;
    uint32_t tag = field->id << 3 | (prefixed ? 2 : 0);
    for (; tag >= 128; tag >>= 7)
        to[n++] = (uint8_t)(tag | 128);
    to[n++] = (uint8_t)tag;
    if (!prefixed) {
        to[n++] = (uint8_t)form;
        return n;
    }
    memcpy(to + n, contents[form], sizeof(contents[form]));
    return n + 1 + contents[form][0];
}

static unsigned check_bodies(const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    unsigned n_named = 0;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        uint32_t named;
        const void *body;
        if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) || field->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        memcpy(&named, (const char *)message + field->quantifier_offset, sizeof(named));
        memcpy(&body, (const char *)message + field->offset, sizeof(body));
        if (named == field->id && body == NULL)
            fail_msg("%s names %s and has none", type->name, field->name);
        n_named += named == field->id;
    }
    return n_named;
}

/* Nobody looks for NULL behind body_case: also not when a message names several bodies, or one
 * several times. */
static void test_a_body_that_is_named_is_there(void **state)
{
    static const ProtobufCMessageDescriptor *const types[] = {&longspan__control__descriptor,
                                                              &longspan__data__descriptor,
                                                              &longspan__run_event__descriptor};
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        const unsigned ways = types[t]->n_fields * FORMS;
        unsigned n_named = 0;
        for (unsigned way = 0; way < ways * ways * ways; way++) {
            uint8_t bytes[FIELDS * 16];
            size_t n = 0;
            for (unsigned i = 0, rest = way; i < FIELDS; i++, rest /= ways)
                n += write_field(bytes + n, &types[t]->fields[rest % ways / FORMS], rest % FORMS);
            ProtobufCMessage *message = protobuf_c_message_unpack(types[t], NULL, n, bytes);
            if (message != NULL)
                n_named += check_bodies(message);
            protobuf_c_message_free_unpacked(message, NULL);
        }
        assert_true(n_named > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_body_that_is_named_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
