//! What one `weir up` holds alone until it ends: the state folder, the control socket and file, the port.
//!
//! Taken before anything is downloaded or started, given up by dropping. What happens in between is `up.rs`.

use crate::control::{ControlFile, Instance, line};
use crate::event::Event;
use crate::home::{StateDir, StateLock};
use crate::listen::ControlSocket;
use crate::shared::Shared;
use crate::up::{Up, UpError};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What this process holds until it ends.
pub(crate) struct Owned {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: StateDir,
    _socket: ControlSocket,
    _lock: StateLock,
}

/// Takes the state folder and opens the control socket.
pub(crate) async fn own(up: &Up, gateway: &str) -> Result<Owned, UpError> {
    let state = up.home.gateway(gateway);
    state.create()?;
    let Some(lock) = state.lock()? else {
        return Err(match Instance::at(&state).await {
            Some(instance) => already_running(instance.control),
            None => UpError::Busy {
                path: state.path().to_path_buf(),
            },
        });
    };
    (up.events)(Event::Owned {
        log: state.log("gateway"),
    });
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let files = up.files.iter().map(absolute).collect();
    let shared = Arc::new(Shared::new(gateway.to_owned(), files));
    let path = state.socket();
    let socket = ControlSocket::open(&path, Arc::clone(&shared))
        .map_err(|source| UpError::Control { path, source })?;
    let owned = Owned {
        shared,
        state,
        _socket: socket,
        _lock: lock,
    };
    owned.write_control_file()?;
    Ok(owned)
}

fn already_running(control: ControlFile) -> UpError {
    let ControlFile {
        gateway,
        pid,
        address,
        ..
    } = control;
    let address = if address.is_empty() {
        "still starting".to_owned()
    } else {
        address
    };
    UpError::AlreadyRunning {
        gateway,
        pid,
        address,
    }
}

impl Owned {
    /// Says who serves what where.
    pub(crate) fn write_control_file(&self) -> Result<(), UpError> {
        let status = self.shared.status();
        let file = ControlFile {
            gateway: status.gateway,
            pid: status.pid,
            address: status.address,
            engines: status.pools.iter().filter_map(|pool| pool.pid).collect(),
            socket: self.state.socket(),
            files: status.files,
            started: status.started,
        };
        let path = self.state.control_file();
        crate::files::replace(&path, &line(&file))
            .map_err(|source| UpError::Control { path, source })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.state.control_file());
    }
}

/// Takes the port of the command line, else the stack's.
pub(crate) async fn bind(up: &Up, listen: &weir_crds::Listen) -> Result<TcpListener, UpError> {
    let port = up.port.unwrap_or(listen.port);
    let address = listen.address.clone();
    let parsed = address.parse().map_err(io::Error::other);
    let bound = match parsed {
        Ok(ip) => TcpListener::bind(SocketAddr::new(ip, port)).await,
        Err(error) => Err(error),
    };
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => UpError::PortInUse { address, port },
        _ => UpError::Listen {
            address: format!("{address} port {port}"),
            source,
        },
    })
}

/// An address that a client on this machine can use.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
