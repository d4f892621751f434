/* Start: options, machine, run. */
#include "machine/machine.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int complain(const struct error *error)
{
    fprintf(stderr, "lyrebird: %s\n", error->text);
    return 1;
}

static void *wait_for_signals(void *opaque)
{
    struct machine *machine = opaque;
    sigset_t set;
    int signal;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    for (;;)
        if (!sigwait(&set, &signal)) machine_quit(machine, 0, "host-signal");
    return NULL;
}

/* SIGINT, SIGTERM and SIGHUP end the machine in good order; a thread of its own hears them. */
static void catch_signals(struct machine *machine)
{
    pthread_t thread;
    if (!pthread_create(&thread, NULL, wait_for_signals, machine)) pthread_detach(thread);
}

int main(int argc, char **argv)
{
    static struct options options; /* too big for some stacks; ours alone */
    struct error error;
    sigset_t set;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* an image that may not grow is a write error */
    if (!options_parse(&options, argc, argv, &error)) return complain(&error);
    if (options.exit_now >= 0) return options.exit_now;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before any thread starts */
    struct machine *machine = machine_new(&options, &error);
    if (!machine) return complain(&error);
    catch_signals(machine);
    int code = machine_run(machine);
    machine_free(machine);
    return code;
}
