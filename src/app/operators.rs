//! What operators reach: the health port, and the admin socket where one is configured.

use std::io;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::admin::control::{Control, ControlSocket, Reload};
use crate::admin::{self, Connections, Health};
use crate::budget::Budget;
use crate::config::assembly::Assembled;
use crate::net;
use crate::pipeline::CallMetrics;
use crate::telemetry::{LogFilter, Metrics};

/// Health, and what may be changed from outside.
pub(super) struct Operators {
    pub(super) health: Arc<Health>,
    /// Somebody asked for an orderly end.
    pub(super) quit: CancellationToken,
    control: Control,
    health_port: Connections,
    admin_socket: Connections,
}

impl Operators {
    pub(super) fn new(
        assembled: &Assembled,
        metrics: (Arc<Metrics>, Arc<CallMetrics>),
        budget: Arc<Budget>,
        log: LogFilter,
    ) -> Self {
        let quit = CancellationToken::new();
        let health = Arc::new(Health::new(metrics, budget, quit.clone(), assembled.config.quit_endpoint));
        let settings = assembled.to_string().into();
        let control = Control { health: health.clone(), log, settings, reload: None };
        Self { health, quit, control, health_port: Connections::default(), admin_socket: Connections::default() }
    }

    /// What `POST /reload` does.
    pub(super) fn on_reload(&mut self, reload: Reload) {
        self.control.reload = Some(reload);
    }

    /// Listens and serves from now on.
    pub(super) fn start(&self, assembled: &Assembled) -> io::Result<()> {
        let config = &assembled.config;
        let listener = net::listen_everywhere(config.health_port)
            .map_err(|error| super::named("SIDETRACE_HEALTH_PORT", config.health_port, &error))?;
        tokio::spawn(admin::serve(listener, self.health.clone(), self.health_port.clone()));
        if let Some(path) = &config.admin_socket {
            let socket = ControlSocket::bind(path).map_err(|error| {
                let text = format!("SIDETRACE_ADMIN_SOCKET: cannot listen at {}: {error}", path.display());
                io::Error::new(error.kind(), text)
            })?;
            tokio::spawn(socket.serve(self.control.clone(), self.admin_socket.clone()));
        }
        Ok(())
    }

    /// Lets those who have asked hear the answer.
    pub(super) async fn finish(self) {
        tokio::join!(self.health_port.finish(), self.admin_socket.finish());
    }
}
