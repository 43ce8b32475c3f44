//! What our own user and root may ask and change through a Unix socket: the log's filter, a reload, an orderly quit; the
//! settings in force.
//!
//! The socket's mode keeps others out, and the kernel's word on who connected does where the mode was changed.

use std::fmt;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::{Answer, Connections, Health, PATIENCE, PAUSE, TEXT, answer};
use crate::telemetry::LogFilter;

/// Reads again what can be read again. Returns what is in force now, or why the old stays. May block.
pub type Reload = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What the answers are made of.
#[derive(Clone)]
pub struct Control {
    /// What the health port knows.
    pub health: Arc<Health>,
    /// The log's filter.
    pub log: LogFilter,
    /// The settings in force, as text.
    pub settings: Arc<str>,
    /// `None` if there is nothing to reload.
    pub reload: Option<Reload>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("health", &self.health).finish_non_exhaustive()
    }
}

impl Control {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::GET, "/log") => answer(StatusCode::OK, TEXT, self.log.directives() + "\n"),
            (&Method::PUT, "/log") => self.set_log(request.into_body()).await,
            (&Method::POST, "/reload") => self.reload().await,
            (&Method::POST, "/quit") => self.health.quit(),
            (&Method::GET, "/config") => answer(StatusCode::OK, TEXT, String::from(&*self.settings)),
            (_, "/log") => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or PUT\n"),
            (_, "/reload" | "/quit") => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "POST\n"),
            (_, "/config") => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET\n"),
            _ => self.health.look(&request).unwrap_or_else(|| answer(StatusCode::NOT_FOUND, TEXT, PATHS)),
        }
    }

    async fn set_log(&self, body: Incoming) -> Answer {
        let body = tokio::time::timeout(PATIENCE, Limited::new(body, MAX_DIRECTIVES).collect()).await;
        let Ok(Ok(body)) = body else {
            return answer(StatusCode::BAD_REQUEST, TEXT, format!("at most {MAX_DIRECTIVES} bytes, at once\n"));
        };
        let body = body.to_bytes();
        let directives = std::str::from_utf8(&body).map(str::trim).unwrap_or_default();
        if directives.is_empty() {
            return refused("a level, or directives such as info,sidetrace::proxy=debug");
        }
        match self.log.set(directives) {
            Ok(()) => {
                let directives = self.log.directives();
                tracing::info!(directives, "the log's filter was changed");
                answer(StatusCode::OK, TEXT, directives + "\n")
            }
            Err(error) => refused(error),
        }
    }

    async fn reload(&self) -> Answer {
        let Some(reload) = self.reload.clone() else {
            return answer(StatusCode::NOT_IMPLEMENTED, TEXT, "nothing that could be reloaded is configured\n");
        };
        match tokio::task::spawn_blocking(move || reload()).await {
            Ok(Ok(said)) => answer(StatusCode::OK, TEXT, said + "\n"),
            Ok(Err(why)) => refused(why),
            Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the reload failed; the log says why\n"),
        }
    }
}

/// A listening socket of mode 0600. Its file goes when this drops.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Listens at `path`. What a dead process left there is replaced; a live one's is not, nor anything but a socket.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match path.symlink_metadata() {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
            }
            Ok(_) => std::fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        // The file's mode is the socket's at the time of the bind: at no moment may others connect.
        let socket = File::from(OwnedFd::from(socket));
        socket.set_permissions(Permissions::from_mode(0o600))?;
        let socket = Socket::from(OwnedFd::from(socket));
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        let listener = UnixListener::from_std(OwnedFd::from(socket).into())?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until the task is dropped.
    pub async fn serve(self, control: Control, connections: Connections) {
        let own = nix::unistd::geteuid().as_raw();
        loop {
            let Some(place) = connections.place().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "admin socket");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let trusted = stream.peer_cred().is_ok_and(|peer| [own, 0].contains(&peer.uid()));
            let control = control.clone();
            connections.serve(place, stream, move |request| {
                let control = control.clone();
                async move {
                    if trusted { control.answer(request).await } else { answer(StatusCode::FORBIDDEN, TEXT, STRANGER) }
                }
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Left behind it would be replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn refused(why: impl fmt::Display) -> Answer {
    answer(StatusCode::BAD_REQUEST, TEXT, Bytes::from(format!("{why}\n")))
}

const PATHS: &str = "GET /log, PUT /log, POST /reload, POST /quit, GET /config, /metrics, /live, /ready\n";
const STRANGER: &str = "for the sidecar's own user and root only\n";
const MAX_DIRECTIVES: usize = 4096;
const BACKLOG: i32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sidetrace-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn the_socket_is_ours_alone_and_goes_with_its_listener() {
        let folder = Folder::new("own");
        let path = folder.0.join("admin.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_processs_socket_is_replaced_and_a_live_ones_is_not() {
        let folder = Folder::new("stale");
        let path = folder.0.join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let live = ControlSocket::bind(&path).unwrap();
        assert_eq!(ControlSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
        drop(live);
    }

    #[tokio::test]
    async fn a_file_is_never_removed() {
        let folder = Folder::new("file");
        let path = folder.0.join("precious");
        std::fs::write(&path, "data").unwrap();
        assert_eq!(ControlSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }
}
