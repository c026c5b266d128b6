//! Make containers by an OCI engine of this machine.

use super::runtime::{Ended, Entered, Filling, Inside, Make, Running, Runtime, RuntimeError, Taken, Usage};
use crate::config::Compute;
use futures::{FutureExt as _, future::BoxFuture};
use hodei_container::{Blob, Container, Engine, Entering, Error, Exec, Layer, Packing, Spec};
use hodei_types::app::{
    container,
    volume::{Tree, Volume},
    wire::Way,
};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};

/// Processes and threads of one container.
const PIDS_MAX: u32 = 1024;

/// Finds what makes containers here; an error says what is missing, and what to do.
pub(super) fn find(config: &Compute, folder: PathBuf) -> Result<Arc<dyn Runtime>, String> {
    let found = match config.engine.as_str() {
        "" => Engine::find(folder),
        path => Engine::at(path.into(), folder),
    };
    let engine = found.map_err(|error| error.to_string())?.image_bytes_max(config.disk_bytes);
    Ok(Arc::new(Oci(engine)))
}

struct Oci(Engine);

struct Made(Container);

impl Runtime for Oci {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn create(&self, make: Make) -> BoxFuture<'_, Result<Arc<dyn Running>, RuntimeError>> {
        async move {
            let made = Container::create(&self.0, spec(make)).await.map_err(told)?;
            Ok(Arc::new(Made(made)) as Arc<dyn Running>)
        }
        .boxed()
    }

    fn adopt<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Arc<dyn Running>>, RuntimeError>> {
        async move {
            let found = Container::adopt(&self.0, id).await.map_err(told)?;
            Ok(found.map(|made| Arc::new(Made(made)) as Arc<dyn Running>))
        }
        .boxed()
    }

    fn remove<'a>(&'a self, id: &'a str, with_logs: bool) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            if let Some(made) = Container::adopt(&self.0, id).await.map_err(told)? {
                made.stop(None).await.map_err(told)?;
                made.delete().await.map_err(told)?;
            }
            if !with_logs {
                return Ok(());
            }
            self.0.remove_logs(id).map_err(told)?;
            let (engine, id) = (self.0.clone(), id.to_owned());
            let removed = tokio::task::spawn_blocking(move || engine.remove_volumes(&id)).await;
            removed.map_err(|error| RuntimeError::Later(error.to_string()))?.map_err(told)
        }
        .boxed()
    }

    fn forget(&self) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let engine = self.0.clone();
        async move {
            let forgotten = tokio::task::spawn_blocking(move || engine.forget_layers(&[])).await;
            forgotten.map_err(|error| RuntimeError::Later(error.to_string()))?.map_err(told)
        }
        .boxed()
    }

    fn is_volume_known(&self, id: &str, name: &str) -> Result<bool, RuntimeError> {
        self.0.is_volume_known(id, name).map_err(told)
    }

    fn bear_volume(&self, id: &str, name: &str) -> Result<(), RuntimeError> {
        self.0.bear_volume(id, name).map_err(told)
    }

    fn fill_volume(&self, id: &str, volume: Volume, tree: Tree) -> Result<Box<dyn Filling>, RuntimeError> {
        Ok(Box::new(self.0.fill_volume(id, volume, tree).map_err(told)?))
    }
}

impl Filling for hodei_container::Filling {
    fn put(&mut self, hash: [u8; 32], bytes: &[u8]) -> io::Result<()> {
        hodei_container::Filling::put(self, hash, bytes)
    }

    fn finish(self: Box<Self>) -> Result<(), RuntimeError> {
        hodei_container::Filling::finish(*self).map_err(told)
    }
}

impl Taken for hodei_container::Taken {
    fn tree(&self) -> &Tree {
        hodei_container::Taken::tree(self)
    }

    fn piece(&self, hash: &[u8; 32]) -> io::Result<Vec<u8>> {
        hodei_container::Taken::piece(self, hash)
    }
}

impl Running for Made {
    fn start(&self) -> BoxFuture<'_, Result<(), RuntimeError>> {
        async move {
            // One that ended is no engine's to start; how it ended is told by who waits for it.
            match self.0.is_warm().await {
                Ok(true) => self.0.start().await.map_err(told),
                Ok(false) | Err(_) => Ok(()),
            }
        }
        .boxed()
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.0.connect(port).boxed()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<TcpListener>> {
        self.0.listen(at).boxed()
    }

    fn test(&self, argv: Vec<String>) -> BoxFuture<'_, Result<i32, RuntimeError>> {
        async move {
            let mut exec = self.0.exec(Entering { argv, ..Entering::default() }).await.map_err(told)?;
            drop(exec.stdin.take());
            // It is heard to its end, so that it does not wait for somebody who listens.
            let (stdout, stderr) = (exec.stdout.take(), exec.stderr.take());
            let (_, _, code) = tokio::join!(drain(stdout), drain(stderr), exec.wait());
            code.map_err(|error| RuntimeError::Later(error.to_string()))
        }
        .boxed()
    }

    fn enter(&self, way: Way) -> BoxFuture<'_, Result<Inside, RuntimeError>> {
        async move {
            let exec = match way {
                Way::Exec(exec) => {
                    let (argv, env, workdir, terminal) = (exec.argv, exec.env, exec.workdir, exec.terminal);
                    self.0.exec(Entering { argv, env, workdir, terminal }).await
                }
                Way::Read { path } => self.0.files(&path, false),
                Way::Write { path } => self.0.files(&path, true),
                Way::Port(_) => return Err(RuntimeError::Never("a port is connected to, not entered".into())),
                Way::Snapshot { .. } | Way::Fill { .. } => {
                    return Err(RuntimeError::Never("a volume is taken or filled, not entered".into()));
                }
            };
            let mut exec = exec.map_err(told)?;
            let (stdin, stdout, stderr) = (exec.stdin.take(), exec.stdout.take(), exec.stderr.take());
            Ok(Inside { stdin, stdout, stderr, process: Box::new(exec) })
        }
        .boxed()
    }

    fn snapshot(&self, volume: Volume, since: Option<[u8; 32]>) -> BoxFuture<'_, Result<Box<dyn Taken>, RuntimeError>> {
        async move {
            let taken = self.0.snapshot(&volume, since).await.map_err(told)?;
            Ok(Box::new(taken) as Box<dyn Taken>)
        }
        .boxed()
    }

    fn usage(&self) -> io::Result<Usage> {
        let hodei_container::Usage { cpu_ns, memory_bytes, memory_peak_bytes, disk_bytes, .. } = self.0.usage()?;
        Ok(Usage { cpu_ns, memory_bytes, memory_peak_bytes, disk_bytes })
    }

    fn ended(&self) -> BoxFuture<'_, Ended> {
        async move {
            let exit = self.0.wait().await;
            Ended { code: exit.code, signal: exit.signal, is_out_of_memory: exit.is_out_of_memory }
        }
        .boxed()
    }

    fn logs(&self) -> [PathBuf; 2] {
        self.0.logs()
    }
}

impl Entered for Exec {
    fn resize(&self, rows: u16, columns: u16) {
        Exec::resize(self, rows, columns);
    }

    fn wait(&mut self) -> BoxFuture<'_, io::Result<i32>> {
        Exec::wait(self).boxed()
    }
}

async fn drain(stream: Option<impl tokio::io::AsyncRead + Unpin>) {
    let Some(mut stream) = stream else { return };
    let mut said = [0; 4096];
    while stream.read(&mut said).await.is_ok_and(|read| read > 0) {}
}

fn told(error: Error) -> RuntimeError {
    match error {
        Error::Spec(_) | Error::Image(_) | Error::Layer { .. } => RuntimeError::Never(error.to_string()),
        error => RuntimeError::Later(error.to_string()),
    }
}

fn spec(make: Make) -> Spec {
    let of = make.container;
    let layer = |layer: &container::Layer| Layer {
        blob: Blob { sha256: layer.blob.sha256, bytes: layer.blob.bytes },
        packing: match layer.packing {
            container::Packing::Plain => Packing::Plain,
            container::Packing::Gzip => Packing::Gzip,
            container::Packing::Zstd => Packing::Zstd,
        },
    };
    Spec {
        id: make.id,
        config: make.config,
        layers: of.layers.iter().map(layer).zip(make.layers).collect(),
        entrypoint: of.entrypoint,
        command: of.command,
        env: of.env,
        workdir: Some(of.workdir).filter(|workdir| !workdir.is_empty()),
        user: Some(of.user).filter(|user| !user.is_empty()),
        hostname: make.hostname,
        cpu_milli: make.cpu_milli,
        memory_bytes: make.memory_bytes,
        disk_bytes: make.disk_bytes,
        pids: PIDS_MAX,
        hosts: make.hosts,
        is_read_only: of.is_read_only,
        stop_signal: None,
        stop_secs: u32::try_from(of.stop_secs).unwrap_or(u32::MAX),
        volumes: of.volumes,
        files: of.files,
    }
}
