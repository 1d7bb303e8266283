/* SPDX-License-Identifier: Apache-2.0
 * The library never prints: what it has to tell goes to the caller's callback.
 */
#ifndef ALLSHARD_BASE_LOG_H
#define ALLSHARD_BASE_LOG_H

enum as_log_level { AS_LOG_ERROR = 1, AS_LOG_WARNING = 2, AS_LOG_INFO = 3, AS_LOG_DEBUG = 4 };

typedef struct as_log {
    void (*call)(int level, const char *text, void *user); /* NULL: silent */
    void *user;
} as_log;

/* `log` may be NULL. Control characters are escaped and long texts cut, as in
 * errors (as_quote_text). */
void as_log_say(const as_log *log, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
