//! A gate that a test opens: what stands in the place of a sleep.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// Each opening lets one through, whether it waits already or comes later.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Gate {
    /// Lets one more through.
    pub fn open(&self) {
        self.0.add_permits(1);
    }

    /// Waits to be let through.
    pub async fn pass(&self) {
        self.0
            .acquire()
            .await
            .expect("a gate is never closed")
            .forget();
    }
}
