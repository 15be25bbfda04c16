/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Time, chance, and what happens next. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

/* splitmix64 */
uint64_t sim_random(Sim *sim) {
        uint64_t z = sim->random += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

uint64_t sim_below(Sim *sim, uint64_t n) {
        return n == 0 ? 0 : sim_random(sim) % n;
}

bool sim_chance(Sim *sim, double probability) {
        return (double) (sim_random(sim) >> 11) < probability * (double) (UINT64_C(1) << 53);
}

usec_t sim_between(Sim *sim, usec_t low_usec, usec_t high_usec) {
        return low_usec + sim_below(sim, high_usec - low_usec + 1);
}

usec_t host_clock(const Sim *sim, const Host *host) {
        return sim->now_usec + host->clock_offset_usec;
}

void *sim_allocate(size_t size) {
        void *memory = calloc(1, size);
        if (!memory)
                abort();
        return memory;
}

static bool is_before(const Event *a, const Event *b) {
        return a->when_usec < b->when_usec || (a->when_usec == b->when_usec && a->order < b->order);
}

static void push(Sim *sim, Event event) {
        if (sim->n_events == sim->n_events_allocated) {
                sim->n_events_allocated = sim->n_events_allocated == 0 ? 1024 : 2 * sim->n_events_allocated;
                sim->events = reallocarray(sim->events, sim->n_events_allocated, sizeof(Event));
                if (!sim->events)
                        abort();
        }
        size_t i = sim->n_events++;
        for (; i > 0 && is_before(&event, &sim->events[(i - 1) / 2]); i = (i - 1) / 2)
                sim->events[i] = sim->events[(i - 1) / 2];
        sim->events[i] = event;
}

static Event pop(Sim *sim) {
        Event first = sim->events[0], last = sim->events[--sim->n_events];
        size_t i = 0;
        for (size_t child; (child = 2 * i + 1) < sim->n_events; i = child) {
                if (child + 1 < sim->n_events && is_before(&sim->events[child + 1], &sim->events[child]))
                        child++;
                if (!is_before(&sim->events[child], &last))
                        break;
                sim->events[i] = sim->events[child];
        }
        sim->events[i] = last;
        return first;
}

static void at(Sim *sim, usec_t when_usec, Host *host, uint64_t life, EventHandler handle, void *data) {
        push(sim,
             (Event) {
                             .when_usec = when_usec < sim->now_usec ? sim->now_usec : when_usec,
                             .order = sim->n_scheduled++,
                             .host = host,
                             .life = life,
                             .handle = handle,
                             .data = data,
             });
}

void sim_at(Sim *sim, usec_t when_usec, Host *host, EventHandler handle, void *data) {
        at(sim, when_usec, host, host ? host->life : 0, handle, data);
}

void sim_at_any_life(Sim *sim, usec_t when_usec, Host *host, EventHandler handle, void *data) {
        at(sim, when_usec, host, 0, handle, data);
}

bool sim_step(Sim *sim) {
        if (sim->n_events == 0)
                return false;
        Event event = pop(sim);
        sim->now_usec = event.when_usec;
        if (event.host && event.host->paused_until_usec > sim->now_usec) {
                event.when_usec = event.host->paused_until_usec;
                push(sim, event);
                return true;
        }
        sim->n_steps++;
        if (event.life == 0 || (event.host->up && event.host->life == event.life))
                event.handle(sim, event.data);
        free(event.data);
        return true;
}

void sim_log(const Sim *sim, const char *format, ...) {
        if (!sim->verbose)
                return;
        va_list arguments;
        printf("%12.6f  ", (double) sim->now_usec / (double) USEC_PER_SEC);
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        putchar('\n');
}

void sim_done(Sim *sim) {
        for (size_t i = 0; i < sim->n_queues; i++)
                queue_crash(sim, &sim->queues[i]);
        for (size_t i = 0; i < sim->n_tasks; i++) {
                SimTask *task = &sim->tasks[i];
                free(task->spec);
                free(task->result);
                for (size_t k = 0; k < task->n_attempts; k++)
                        free(task->attempts[k].json);
        }
        for (Rpc *rpc = sim->rpcs, *next; rpc; rpc = next) {
                next = rpc->next;
                free(rpc);
        }
        for (size_t i = 0; i < sim->n_events; i++)
                free(sim->events[i].data);
        free(sim->events);
        free(sim->attempts);
        cluster_end(sim);
}
