//! Connections whose client has stopped reading: they end, and with them what their request holds at an engine.
//!
//! A full connection is not written to, so nothing above it is polled and no deadline of a request is seen. Only the
//! connection itself can tell; where it carries several answers, `http/unread.rs` tells for each. Reading on: `serve.rs`.

use crate::gateway::Gateway;
use axum::serve::Listener;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A listener whose connections end when their client takes nothing for as long as a request may take.
pub(crate) struct Patient<L> {
    listener: L,
    gateway: Gateway,
}

/// A connection of [`Patient`].
pub(crate) struct Watched<Io> {
    io: Io,
    patience: Duration,
    /// Runs while the connection takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<L> Patient<L> {
    pub(crate) fn new(listener: L, gateway: Gateway) -> Self {
        Self { listener, gateway }
    }
}

impl<L: Listener> Listener for Patient<L> {
    type Io = Watched<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.listener.accept().await;
        let limit = self.gateway.serving().plan.limits.request_timeout_ms;
        let watched = Watched {
            io,
            patience: Duration::from_millis(limit),
            stalled: None,
        };
        (watched, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl<Io: AsyncWrite + Unpin> Watched<Io> {
    fn watch<T>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.io), cx);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = || Box::pin(tokio::time::sleep(patience));
        let stalled = self.stalled.get_or_insert_with(stalled);
        std::task::ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch(cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch(cx, |io, cx| io.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(cx, AsyncWrite::poll_shutdown)
    }
}
