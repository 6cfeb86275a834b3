//! The roles, one file each, and what is the same for all of them: listeners, start, stop.

mod api;
pub(crate) mod backend;
mod balancer;
pub(crate) mod engine;
mod measuring;
pub(crate) mod nodes;
mod serve;
mod web;

use crate::{
    admin::{Admin, Condition, RolePart},
    guard::Guard,
    lifecycle::{Lifecycle, Signals},
    listen::{self, Bounds},
    site::{App, Site},
    telemetry,
};
use anyhow::Result;
use axum::{Json, Router};
use futures_util::{FutureExt as _, future::BoxFuture};
use jarvis_balancer::Balancer;
use jarvis_config::{ListenAddress, Loaded};
use serde_json::json;
use std::{
    future::{Future, ready},
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything in one process.
    Serve,
    /// The backend alone.
    Api,
    /// The balancer alone.
    Balancer,
    /// The model server alone.
    Engine,
    /// The web app alone.
    Web,
}

impl Role {
    /// The public port where none is configured.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Serve => 8080,
            Self::Api => 8000,
            Self::Balancer => 11434,
            Self::Engine => 11435,
            Self::Web => 3000,
        }
    }

    /// The public and the admin address.
    pub(crate) fn addresses(self, loaded: &Loaded) -> (ListenAddress, ListenAddress) {
        let server = &loaded.config.server;
        let public = server
            .listen
            .unwrap_or(ListenAddress::loopback(self.port()));
        let admin = server.admin_listen.unwrap_or_else(|| {
            // Port 0 means any free one, and so does one above it all.
            let port = match public.0.port() {
                0 => 0,
                port => port.checked_add(1000).unwrap_or(0),
            };
            ListenAddress::loopback(port)
        });
        (public, admin)
    }
}

/// What a role's `start` gets.
pub(crate) struct Context {
    /// The configuration.
    pub(crate) loaded: Loaded,
    /// Where tasks and tokens are.
    pub(crate) lifecycle: Lifecycle,
    /// The address the public listener really has.
    pub(crate) public: SocketAddr,
    /// The address the admin listener really has.
    pub(crate) admin: SocketAddr,
}

impl Context {
    /// How long running work may take to end.
    fn shutdown_time(&self) -> Duration {
        // A little less than all of it, so that what comes after the drain has its share.
        Duration::from_secs(self.loaded.config.server.shutdown_seconds).mul_f32(0.8)
    }
}

/// A role that has started.
pub(crate) struct Running {
    /// What the public listener answers.
    app: App,
    /// Routes of the admin listener beside metrics and health.
    admin: Router,
    /// What `/health/ready` says of its parts.
    condition: Option<Condition>,
    /// Whose nodes the metrics tell of.
    balancer: Option<Balancer>,
    /// Lines to print below the address.
    notes: Vec<String>,
    /// Ends or hands over running work; called once, when the soft stop has begun.
    drain: BoxFuture<'static, ()>,
}

impl Running {
    /// A role with nothing to drain.
    fn new(app: impl Into<App>) -> Self {
        Self {
            app: app.into(),
            admin: Router::new(),
            condition: None,
            balancer: None,
            notes: Vec::new(),
            drain: ready(()).boxed(),
        }
    }
}

/// Runs `role` until it is told to stop.
///
/// # Errors
/// Why it could not start, or what made it stop.
pub(crate) async fn run(role: Role, loaded: Loaded) -> Result<()> {
    telemetry::start_log(&loaded.config.log)?;
    let mut signals = Signals::catch()?;
    let (public, admin) = role.addresses(&loaded);
    let bounds = Bounds::from(&loaded.config.server);
    let bounds = bounds.leaving(listen::open_files(), role == Role::Balancer);
    let limit = Duration::from_secs(loaded.config.server.shutdown_seconds);
    let public = listen::bind(public, "--listen")?;
    let admin = listen::bind(admin, "--admin-listen")?;
    let lifecycle = Lifecycle::default();
    let admin_address = admin.local_addr()?;
    let role_part = Arc::new(OnceLock::new());
    let metrics = telemetry::start_metrics()?;
    let upkeep = telemetry::keep(metrics.clone(), lifecycle.drained().clone());
    lifecycle.spawn("metrics", upkeep);
    let admin_routes = Admin {
        metrics,
        lifecycle: lifecycle.clone(),
        role: Arc::clone(&role_part),
    }
    .router();
    let until = lifecycle.drained().clone();
    tracing::info!(%admin_address, "metrics and health are here");
    let admin_site = Site {
        app: admin_routes.into(),
        guard: Guard::default(),
    };
    let task = listen::serve(admin, admin_site, bounds, until, lifecycle.clone());
    lifecycle.spawn("admin listener", task);

    let context = Context {
        public: public.local_addr()?,
        admin: admin_address,
        lifecycle: lifecycle.clone(),
        loaded,
    };
    let running = tokio::select! {
        running = start(role, &context) => running?,
        () = lifecycle.until_stop(&mut signals) => {
            return lifecycle.finish(&mut signals, limit, async {}).await;
        }
    };
    let allowed: Arc<[String]> = context
        .loaded
        .config
        .server
        .allowed_origins
        .as_slice()
        .into();
    let guard = |address: SocketAddr, origins: bool| Guard {
        hosts: address.ip().is_loopback(),
        origins,
        allowed: Arc::clone(&allowed),
    };
    // Whoever reaches the model server or the balancer may use it; every other role knows its users.
    let site = Site {
        app: running.app,
        guard: guard(
            context.public,
            matches!(role, Role::Engine | Role::Balancer),
        ),
    };
    let task = listen::serve(
        public,
        site,
        bounds,
        lifecycle.soft().clone(),
        lifecycle.clone(),
    );
    lifecycle.spawn("public listener", task);
    let _ = role_part.set(RolePart {
        site: Site {
            app: running.admin.into(),
            guard: guard(admin_address, true),
        },
        condition: running.condition,
        balancer: running.balancer,
    });
    announce(role, context.public, &running.notes)?;
    lifecycle.until_stop(&mut signals).await;
    lifecycle.finish(&mut signals, limit, running.drain).await
}

/// The one place where a role becomes its `start` function.
fn start(role: Role, context: &Context) -> impl Future<Output = Result<Running>> {
    match role {
        Role::Serve => serve::start(context).boxed(),
        Role::Api => api::start(context).boxed(),
        Role::Balancer => balancer::start(context).boxed(),
        Role::Engine => ready(engine::start(context)).boxed(),
        Role::Web => ready(Ok(web::start())).boxed(),
    }
}

/// `GET /health` of the public port, for load balancers: says only that someone answers.
async fn health() -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
}

fn announce(role: Role, address: SocketAddr, notes: &[String]) -> Result<()> {
    let name = match role {
        Role::Serve => "Jarvis",
        Role::Api => "Jarvis' backend",
        Role::Balancer => "Jarvis' balancer",
        Role::Engine => "Jarvis' model server",
        Role::Web => "Jarvis' web app",
    };
    let mut text = format!("{name} is ready: http://{address}\n");
    for note in notes {
        text.push_str(note);
        text.push('\n');
    }
    crate::commands::print(&text).map(drop)
}
