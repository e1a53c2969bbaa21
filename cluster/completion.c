/* completion.c - what is the same for all tables of a completion script; the tables follow, each
 * printed by the command that parses it (sys/options_completion.c). */
#include "cluster/completion.h"

#include "cluster/front_door.h"
#include "sys/log.h"
#include "sys/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shell {
    const char *name, *first, *last; /* the script, but for the tables between */
};

/* bash takes = and : out of words; what follows a colon is nothing that we know. A word may be the
 * value of the option before it; else it is an option, or the name of a command as long as only
 * such stand before it, or of a file. */
static const char bash_first[] =
    "# bash completion for longspan, printed by: longspan completion bash\n"
    "\n"
    "# _longspan_table COMMAND OPTION: what may follow the command, and the option's value.\n"
    "_longspan_table()\n"
    "{\n"
    "    commands='' options='' files='' value=''\n"
    "    case $1 in\n";
static const char bash_last[] =
    "    esac\n"
    "}\n"
    "\n"
    "_longspan()\n"
    "{\n"
    "    local commands options files value command=longspan at=1\n"
    "    local word=$2 before=$3\n"
    "    COMPREPLY=()\n"
    "    if [[ $before == : || ${COMP_WORDS[COMP_CWORD]} == : ]]; then\n"
    "        return\n"
    "    elif [[ $before == = ]]; then\n"
    "        before=${COMP_WORDS[COMP_CWORD - 2]}\n"
    "    fi\n"
    "    if [[ ${COMP_WORDS[1]} == help && $COMP_CWORD -gt 1 ]]; then\n"
    "        at=2\n"
    "    fi\n"
    "    for ((; at < COMP_CWORD; at++)); do\n"
    "        _longspan_table \"$command\" ''\n"
    "        [[ \" $commands \" == *\" ${COMP_WORDS[at]} \"* ]] || break\n"
    "        command+=\" ${COMP_WORDS[at]}\"\n"
    "    done\n"
    "    _longspan_table \"$command\" \"$before\"\n"
    "    [[ $at == \"$COMP_CWORD\" ]] || commands=''\n"
    "    case $value in\n"
    "    '')\n"
    "        if [[ $word == -* || -z $commands$files ]]; then\n"
    "            commands=$options files=''\n"
    "        fi\n"
    "        ;;\n"
    "    ANY) commands='' files='' ;;\n"
    "    FILE | DIR) commands='' files=$value ;;\n"
    "    *) commands=$value files='' ;;\n"
    "    esac\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$commands\" -- \"$word\")\n"
    "    if [[ -n $files ]]; then\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        [[ $files == DIR ]] && files=-d || files=-f\n"
    "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen \"$files\" -- \"$word\")\n"
    "    fi\n"
    "}\n"
    "\n"
    "complete -F _longspan longspan\n";

static const char zsh_first[] =
    "#compdef longspan\n"
    "# zsh completion for longspan, printed by: longspan completion zsh\n";
/* The file is the function when it is found in fpath, and is sourced otherwise. */
static const char zsh_last[] = "\n"
                               "_longspan_help() { _longspan }\n"
                               "\n"
                               "if [[ ${funcstack[1]} == _longspan ]]; then\n"
                               "    _longspan \"$@\"\n"
                               "else\n"
                               "    compdef _longspan longspan\n"
                               "fi\n";

static const char fish_first[] =
    "# fish completion for longspan, printed by: longspan completion fish\n"
    "\n"
    "set -g __longspan_commands\n"
    "\n"
    "# Whether the words before the cursor begin with this command, and with no command of its "
    "own.\n"
    "function __longspan_at\n"
    "    set -l words (commandline -opc)[2..-1]\n"
    "    set -l command longspan\n"
    "    if test \"$words[1]\" = help\n"
    "        set -e words[1]\n"
    "    end\n"
    "    for word in $words\n"
    "        contains -- \"$command $word\" $__longspan_commands; or break\n"
    "        set command \"$command $word\"\n"
    "    end\n"
    "    test \"$command\" = \"$argv\"\n"
    "end\n"
    "\n"
    "complete -c longspan -f\n";

static const struct shell shells[] = {
    {"bash", bash_first, bash_last},
    {"zsh", zsh_first, zsh_last},
    {"fish", fish_first, ""},
};

/* The tables of all these commands and of their own ones. */
static void print_tables(const struct command_entry *commands, const char *form)
{
    for (; commands->name != NULL; commands++) {
        char name[64], help[64];
        snprintf(name, sizeof(name), "%s", commands->name);
        snprintf(help, sizeof(help), "--help=%s", form);
        char *argv[] = {name, help, NULL};
        commands->main(2, argv);
        if (commands->commands != NULL)
            print_tables(commands->commands, form);
    }
}

static const struct shell *find_shell(const char *name)
{
    for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++)
        if (strcmp(shells[i].name, name) == 0)
            return &shells[i];
    return NULL;
}

int completion_main(int argc, char **argv)
{
    struct log log;
    struct error error = {0};
    enum options_form help = OPTIONS_NO_HELP;
    log_open(&log, "longspan completion", 0);
    const struct option_usage usage = {
        "longspan completion", "bash|zsh|fish",
        "Prints a script that makes a shell complete the commands of longspan, their options, and "
        "what these take. make install puts one for each shell where it looks for them.",
        .examples =
            "  source <(longspan completion bash)                     in ~/.bashrc\n"
            "  source <(longspan completion zsh)                      in ~/.zshrc, after compinit\n"
            "  longspan completion fish | source                      in "
            "~/.config/fish/config.fish\n"};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Shells"},
        {.kind = OPTION_WORD, .name = "bash", .help = "version 4 and later"},
        {.kind = OPTION_WORD, .name = "zsh", .help = "with compinit"},
        {.kind = OPTION_WORD, .name = "fish", .help = "version 3 and later"},
        {.kind = OPTION_SECTION, .help = "Options"},
        options_help(&help),
        {.kind = 0}};
    struct option_item items[1];
    struct option_list words = {.items = items, .capacity = 1};
    enum status status = options_parse(table, argc, argv, &words, &error);
    if (status == STATUS_OK && help) {
        options_print_help(stdout, help, &usage, table);
        return EXIT_SUCCESS;
    }
    const struct shell *shell =
        status == STATUS_OK && words.n == 1 ? find_shell(items[0].text) : NULL;
    if (status == STATUS_OK && shell == NULL)
        status =
            error_set(&error, STATUS_INVALID, "which shell? longspan completion %s", usage.words);
    if (status != STATUS_OK) {
        log_error(&log, "%s", error.text);
        return status_exit_code(status);
    }
    fputs(shell->first, stdout);
    front_door_print_help(stdout, options_form_find(shell->name));
    print_tables(front_door_commands, shell->name);
    fputs(shell->last, stdout);
    return EXIT_SUCCESS;
}
