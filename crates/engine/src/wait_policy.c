// libgomp reads its settings once, before `main`; this runs before that. Threads of the model's computation shall sleep
// while they wait for one another: by default they spin, and on a machine that is busy with something else they then take
// the processor from the very thread they wait for (measured at a load of eight on two processors: 2 to 10 tokens a second
// with spinning, 90 with sleeping). Whoever sets OMP_WAIT_POLICY is obeyed.
#include <stdlib.h>

__attribute__((constructor(101))) static void sleep_while_waiting(void) {
    setenv("OMP_WAIT_POLICY", "passive", 0);
}
