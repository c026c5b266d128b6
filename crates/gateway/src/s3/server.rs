//! Accept S3 connections, within limits.

use super::{
    access::Access,
    facts::Arrival,
    held::Held,
    keys::Keyring,
    layer::Layer,
    log::AccessLog,
    names::{Domains, Names},
    objects::Objects,
    patience::Patient,
    silence::Heard,
    tls::Tls,
    website::Site,
};
use crate::expect;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use s3s::{
    Body, HttpError, HttpRequest, HttpResponse,
    config::{S3Config, StaticConfigProvider},
    service::{S3Service, S3ServiceBuilder},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Connections served at once; more wait in the kernel's queue. Each holds at most one stripe of a body.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take to send its headers; slow senders hold a slot otherwise.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer may take nothing of an answer: what was read ahead for it is memory that others wait for.
const TAKING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a peer may send nothing of a body that is waited for: what came of it is memory that others wait for.
const SENDING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long agreeing on keys may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How the door is reached.
#[derive(Clone, Default)]
pub struct Config {
    /// Domains under which buckets' names stand; addressing by path always works.
    pub domains: Vec<String>,
    pub tls: Option<Tls>,
    pub log: Option<AccessLog>,
}

/// Serves S3 on `listener` until the task is dropped.
pub async fn serve(listener: TcpListener, objects: Objects, config: Config) {
    let domains = Domains::of(&config.domains);
    let layer = Layer { service: service(&objects, domains.clone()), objects, domains, held: Held::default() };
    accept(listener, Door::S3(layer), config).await;
}

/// What stands behind a connection.
#[derive(Clone)]
pub(super) enum Door {
    S3(Layer),
    Site(Site),
}

impl Door {
    async fn call(&self, request: HttpRequest, arrival: Arrival) -> Result<HttpResponse, HttpError> {
        match self {
            Self::S3(layer) => layer.call(request, arrival).await,
            Self::Site(site) => Ok(site.call(request, arrival).await),
        }
    }
}

pub(super) async fn accept(listener: TcpListener, door: Door, config: Config) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (socket, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "s3: accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        socket.set_nodelay(true).ok();
        let (door, config) = (door.clone(), config.clone());
        tokio::spawn(async move {
            connection(socket, from, door, config).await;
            drop(slot);
        });
    }
}

fn service(objects: &Objects, domains: Domains) -> S3Service {
    let mut config = S3Config::default();
    config.xml_max_body_size = 1 << 20; // 10,000 parts of a CompleteMultipartUpload take 0.9 MB
    let keyring: Keyring = objects.keyring.clone();
    let mut builder = S3ServiceBuilder::new(objects.clone());
    builder.set_auth(keyring);
    builder.set_access(Access::of(objects));
    builder.set_host(domains);
    builder.set_validation(Names);
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

async fn connection(socket: TcpStream, from: SocketAddr, door: Door, Config { tls, log, .. }: Config) {
    let Some(tls) = tls else { return talk(socket, Arrival { from, is_tls: false }, door, log).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
        Ok(Ok(socket)) => talk(socket, Arrival { from, is_tls: true }, door, log).await,
        Ok(Err(error)) => tracing::debug!(%from, %error, "s3: no TLS"),
        Err(_) => tracing::debug!(%from, "s3: no TLS in time"),
    }
}

async fn talk<S>(socket: S, arrival: Arrival, door: Door, log: Option<AccessLog>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handler = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let door = door.clone();
        let (head, body) = request.into_parts();
        let waits = expect::waits(head.version, &head.headers);
        let (body, silence) = Heard::new(body, SENDING_TIMEOUT);
        let mut request = HttpRequest::from_parts(head, Body::http_body(body));
        request.extensions_mut().insert(silence.clone());
        let line = log.as_ref().map(|log| log.begin(&request, arrival.from));
        async move {
            let mut response = door.call(request, arrival).await?;
            if waits && !silence.is_asked() {
                expect::close(response.headers_mut());
            }
            Ok::<_, HttpError>(match line {
                Some(line) => line.answered(response),
                None => response,
            })
        }
    });
    let socket = Patient::new(socket, TAKING_TIMEOUT);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    if let Err(error) = builder.serve_connection(TokioIo::new(socket), handler).await {
        tracing::debug!(from = %arrival.from, %error, "s3: connection ended");
    }
}
