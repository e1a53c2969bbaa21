/* page.c - the page at / and its parts, which are files of page/, put into the program by the
 * assembler.
 *
 * Nothing of the page comes from elsewhere, and the browser is told so: no script, style, font or
 * connection but to this server, nothing inline, in nobody's frame. */
#include "coordinator/http/routes.h"

#include <string.h>

/* The bytes of a file, from NAME_begin to NAME_end. The path is from the root of the sources, where
 * the build runs; the Makefile knows that this file depends on them. */
#define FILE_BYTES(name, path)                                                                     \
    __asm__(".section .rodata\n"                                                                   \
            ".global " #name "_begin\n.global " #name "_end\n" #name "_begin:\n"                   \
            ".incbin \"coordinator/http/page/" path "\"\n" #name "_end:\n.byte 0\n"                \
            ".previous\n");                                                                        \
    extern const char name##_begin[], name##_end[]

FILE_BYTES(page_index, "index.html");
FILE_BYTES(page_style, "style.css");
FILE_BYTES(page_icon, "icon.svg");
FILE_BYTES(page_main, "main.js");
FILE_BYTES(page_charts, "charts.js");
FILE_BYTES(page_chat, "chat.js");
FILE_BYTES(page_format, "format.js");
FILE_BYTES(page_picture, "picture.js");
FILE_BYTES(page_prompts, "prompts.js");
FILE_BYTES(page_server, "server.js");

static const struct {
    const char *path, *type, *begin, *end;
} files[] = {
    {"/", "text/html; charset=utf-8", page_index_begin, page_index_end},
    {"/page/style.css", "text/css; charset=utf-8", page_style_begin, page_style_end},
    {"/page/icon.svg", "image/svg+xml", page_icon_begin, page_icon_end},
    {"/page/main.js", "text/javascript; charset=utf-8", page_main_begin, page_main_end},
    {"/page/charts.js", "text/javascript; charset=utf-8", page_charts_begin, page_charts_end},
    {"/page/chat.js", "text/javascript; charset=utf-8", page_chat_begin, page_chat_end},
    {"/page/format.js", "text/javascript; charset=utf-8", page_format_begin, page_format_end},
    {"/page/picture.js", "text/javascript; charset=utf-8", page_picture_begin, page_picture_end},
    {"/page/prompts.js", "text/javascript; charset=utf-8", page_prompts_begin, page_prompts_end},
    {"/page/server.js", "text/javascript; charset=utf-8", page_server_begin, page_server_end},
};

static const struct call_header_line lines[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"Cache-Control", "no-cache"},
    {NULL, NULL}};

enum MHD_Result handle_page(struct call *call)
{
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (strcmp(call->path, files[i].path) == 0)
            return call_static(call, files[i].type, lines, files[i].begin,
                               (size_t)(files[i].end - files[i].begin));
    struct api_error error;
    api_error_set(&error, 404, NULL, "unknown_url", "the page has no part %s", call->path);
    return call_error(call, &error);
}
