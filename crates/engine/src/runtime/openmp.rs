//! The number of threads of one computation, set from outside llama.cpp.
//!
//! The context's own number is fixed when it is made. Its parallel parts ask the OpenMP runtime for that many threads,
//! and the runtime gives fewer where a limit is in force.
#![expect(
    unsafe_code,
    reason = "calls the OpenMP runtime (GCC's ABI, `GOMP_5.0`)"
)]

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::ffi::{c_uint, c_void};

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    fn GOMP_teams_reg(
        run: unsafe extern "C" fn(*mut c_void),
        data: *mut c_void,
        teams: c_uint,
        thread_limit: c_uint,
        flags: c_uint,
    );
}

/// Runs `step` with at most `limit` threads for each of its parallel parts: what a `teams` construct of one team with a
/// `thread_limit` compiles to.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn with_limit<T, F: FnOnce() -> T>(limit: u32, step: F) -> T {
    struct Call<F, T> {
        step: Option<F>,
        done: Option<T>,
    }

    unsafe extern "C" fn run<F: FnOnce() -> T, T>(data: *mut c_void) {
        // SAFETY: `data` is the `Call` below, on the stack of the thread that waits for this and touches it no more
        // meanwhile.
        let call = unsafe { &mut *data.cast::<Call<F, T>>() };
        if let Some(step) = call.step.take() {
            call.done = Some(step());
        }
    }

    let mut call = Call {
        step: Some(step),
        done: None,
    };
    // SAFETY: one team runs, on this very thread and before the call returns; `run` fits `Call<F, T>`, and a panic that
    // would leave it ends the process.
    unsafe { GOMP_teams_reg(run::<F, T>, (&raw mut call).cast(), 1, limit, 0) };
    match (call.done, call.step) {
        (Some(done), _) => done,
        (None, Some(step)) => step(),
        (None, None) => unreachable!("a step is taken only to be done"),
    }
}

/// Elsewhere the number stays what it is.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn with_limit<T, F: FnOnce() -> T>(_limit: u32, step: F) -> T {
    step()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_step_runs_once_on_the_calling_thread() {
        let here = std::thread::current().id();
        let mut runs = 0;
        let there = with_limit(1, || {
            runs += 1;
            std::thread::current().id()
        });
        assert_eq!((runs, there), (1, here));
    }
}
