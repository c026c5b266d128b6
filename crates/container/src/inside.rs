//! Make sockets inside a container's network, from outside.
//!
//! A socket belongs to the network that its maker's thread was in. A thread that lives for one socket goes there; no
//! thread of the runtime ever does.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
};

const BACKLOG: u32 = 1024;

/// A container's network, held open for as long as this is.
#[derive(Clone, Debug)]
pub(crate) struct Network(Arc<OwnedFd>);

impl Network {
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        Ok(Self(Arc::new(File::open(format!("/proc/{pid}/ns/net"))?.into())))
    }

    async fn within<T: Send + 'static>(&self, make: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let (network, (said, heard)) = (self.0.clone(), oneshot::channel());
        std::thread::Builder::new().name("container-socket".into()).stack_size(128 << 10).spawn(move || {
            // SAFETY: a descriptor that is open. Only this thread, which ends here, is moved.
            let entered = crate::root::checked(unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) });
            // Who asked may have gone.
            said.send(entered.and_then(|_| make())).ok();
        })?;
        heard.await.map_err(io::Error::other)?
    }

    pub(crate) async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let stream = self.within(TcpSocket::new_v4).await?.connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(crate) async fn listen(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        let bound = move || {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            Ok(socket)
        };
        self.within(bound).await?.listen(BACKLOG)
    }

    /// Brings up the loopback, which is all there is.
    pub(crate) async fn light(&self) -> io::Result<()> {
        let up = || {
            let socket = std::net::UdpSocket::from(socket()?);
            // SAFETY: an ifreq of zeroes is a valid one.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            request.ifr_name[0] = b'l' as libc::c_char;
            request.ifr_name[1] = b'o' as libc::c_char;
            request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
            // SAFETY: the struct is the kernel's, and outlives the call.
            crate::root::checked(unsafe {
                libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
            })
            .map(drop)
        };
        self.within(up).await
    }
}

fn socket() -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain numbers.
    let fd = crate::root::checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
