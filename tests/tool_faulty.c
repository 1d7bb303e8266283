/* SPDX-License-Identifier: Apache-2.0
 * The whole command line tool, with trouble on purpose: the environment says which calls that
 * touch the disk fail, stall or kill on which rank (support_faults.h tells how). Its main is that
 * of src/cli.
 */
#include "cli/world.h"
#include "support_faults.h"

/* Before main, so that no call is missed. */
__attribute__((constructor)) static void begin_trouble(void)
{
    fault_from_environment(as_world_launched() ? as_world_launched_rank() : -1);
}
