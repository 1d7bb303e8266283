/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/held.h"

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

/* A process holds a handful of locks at most, and looks at them a few times per save. */
static as_held *first;
static atomic_flag in_use = ATOMIC_FLAG_INIT;

static void enter(void)
{
    while (atomic_flag_test_and_set_explicit(&in_use, memory_order_acquire)) {
        (void)sched_yield();
    }
}

static void leave(void)
{
    atomic_flag_clear_explicit(&in_use, memory_order_release);
}

void as_held_add(as_held *held)
{
    enter();
    held->next = first;
    first = held;
    leave();
}

void as_held_drop(as_held *held)
{
    enter();
    for (as_held **at = &first; *at; at = &(*at)->next) {
        if (*at == held) {
            *at = held->next;
            break;
        }
    }
    leave();
}

bool as_held_find(dev_t device, ino_t inode)
{
    enter();
    const as_held *at = first;
    while (at && (at->device != device || at->inode != inode)) {
        at = at->next;
    }
    leave();
    return at != NULL;
}
