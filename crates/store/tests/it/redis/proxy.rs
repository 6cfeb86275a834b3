//! Something in the way to a server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Passes connections on to a server, and cuts one when told to.
pub(crate) struct Proxy {
    port: u16,
    armed: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Before the server on this port.
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let cut = Arc::clone(&armed);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, server, Arc::clone(&cut)));
            }
        });
        Self {
            port,
            armed,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The next `XADD` reaches the server, which does it; its answer does not reach the client, whose connection ends.
    pub(crate) fn lose_the_next_acknowledgement(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Whether that has happened.
    pub(crate) fn has_cut(&self) -> bool {
        !self.armed.load(Ordering::SeqCst)
    }
}

/// Returns when the connection ends.
async fn pass(mut client: TcpStream, server: u16, armed: Arc<AtomicBool>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut lost = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let sent = &up[..length];
                let adds = sent.windows(4).any(|word| word == b"XADD");
                if adds && armed.load(Ordering::SeqCst) {
                    lost = true;
                }
                if server.write_all(sent).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if lost {
                    armed.store(false, Ordering::SeqCst);
                    return;
                }
                if client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
