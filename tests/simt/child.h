// A play in a process of its own, for what the machine ends with an abort.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

// Returns what it said on stderr; `status` is how it ended, as waitpid tells it.
template <class Play>
std::string run_in_child(Play&& play, int* status) {
    int ends[2];
    if (pipe(ends) != 0) {
        std::perror("pipe");
        std::exit(1);
    }
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        play();
        _exit(0);
    }
    close(ends[1]);
    std::string said;
    char part[512];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) said.append(part, static_cast<size_t>(n));
    close(ends[0]);
    waitpid(child, status, 0);
    return said;
}
