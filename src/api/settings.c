/* SPDX-License-Identifier: Apache-2.0 */
#include "api/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "transfer/arguments.h"

static const double shortest = 0.01;
static const double longest = 1e6;

#ifdef NDEBUG
static const bool check_always = false;
#else
static const bool check_always = true;
#endif

/* NULL: not set. */
static const char *variable(const char *name)
{
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

static int read_timeout(double *out, double option, as_error *e)
{
    const char *text = variable(AS_TIMEOUT_VARIABLE);
    char *end = NULL;
    double value = text ? strtod(text, &end) : option;
    if (text && (end == text || *end)) {
        return as_fail(e, AS_INVALID, 0,
                       AS_TIMEOUT_VARIABLE " is %s; it must be a number of seconds",
                       as_quote(text, strlen(text)).text);
    }
    /* Written so that no number at all is refused too. */
    bool good = value == 0 || (value >= shortest && value <= longest);
    if (!good) {
        return as_fail(e, AS_INVALID, 0, "%s is %g seconds; it must be 0, or %g to %g",
                       text ? AS_TIMEOUT_VARIABLE : "timeout_s", value, shortest, longest);
    }
    *out = value;
    return AS_OK;
}

static int read_cuda(enum as_cuda_wish *out, int32_t option, as_error *e)
{
    static const char *const words[] = {
        [AS_CUDA_AUTO] = "auto", [AS_CUDA_OFF] = "off", [AS_CUDA_ON] = "on"};
    const char *text = variable(AS_CUDA_VARIABLE);
    if (!text && (option < ALLSHARD_CUDA_AUTO || option > ALLSHARD_CUDA_ON)) {
        return as_fail(e, AS_INVALID, 0, "cuda is %d; see enum allshard_cuda", option);
    }
    *out = (enum as_cuda_wish)option;
    if (text) {
        size_t i = 0;
        while (i < sizeof words / sizeof *words && strcmp(text, words[i]) != 0) {
            i++;
        }
        if (i == sizeof words / sizeof *words) {
            return as_fail(e, AS_INVALID, 0, AS_CUDA_VARIABLE " is %s; it must be auto, off or on",
                           as_quote(text, strlen(text)).text);
        }
        *out = (enum as_cuda_wish)i;
    }
    return AS_OK;
}

int as_settings_read(as_settings *out, const allshard_options *options, as_error *e)
{
    const char *check = variable(AS_CHECK_VARIABLE);
    *out = (as_settings){.check_calls = check_always || options->check_calls != 0,
                         .cancel_on_close = options->cancel_on_close != 0};
    if (check && strcmp(check, "0") != 0 && strcmp(check, "1") != 0) {
        return as_fail(e, AS_INVALID, 0, AS_CHECK_VARIABLE " is %s; it must be 0 or 1",
                       as_quote(check, strlen(check)).text);
    }
    if (check) {
        out->check_calls = *check == '1';
    }
    int code = read_cuda(&out->cuda, options->cuda, e);
    if (code != AS_OK) {
        return code;
    }
    return read_timeout(&out->timeout_s, options->timeout_s, e);
}

int as_settings_agree(as_settings *s, as_comm *c, as_error *e)
{
    int64_t limit = (int64_t)(s->timeout_s * 1e9);
    int64_t values[] = {s->check_calls, limit, -limit, s->cancel_on_close};
    int code = as_comm_agree(c, e);
    if (code == AS_OK) {
        code = as_comm_max(c, values, sizeof values / sizeof *values, e);
    }
    s->check_calls = values[0] != 0;
    s->cancel_on_close = values[3] != 0;
    if (code == AS_OK && values[1] != -values[2]) {
        char text[32];
        (void)snprintf(text, sizeof text, "%g s", s->timeout_s);
        as_argument a = as_argument_read("timeout_s (" AS_TIMEOUT_VARIABLE ")", text, limit);
        code = as_arguments_agree(c, &a, 1, e);
    }
    return code;
}
