/* plugins.c - linked into a worker that AddressSanitizer watches: Open MPI's plugins can be named.
 *
 * Open MPI unloads its plugins at its end. What they kept is then reachable from nowhere, and the
 * stacks of who took it lead into code that is gone: lsan.txt could not name it. So nothing is
 * unloaded, and stacks are walked by unwind tables, which libraries have, not by frame pointers,
 * which many lack. */

int dlclose(void *handle);
const char *__asan_default_options(void);

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}

const char *__asan_default_options(void)
{
    return "fast_unwind_on_malloc=0";
}
