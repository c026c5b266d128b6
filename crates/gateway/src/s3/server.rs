//! Accept S3 connections, within limits.

use super::objects::Objects;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use s3s::{
    Body, HttpRequest, HttpResponse,
    auth::SimpleAuth,
    config::{S3Config, StaticConfigProvider},
    service::{S3Service, S3ServiceBuilder},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};

/// Connections served at once; more wait in the kernel's queue. Each holds at most one stripe of a body.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take to send its headers; slow senders hold a slot otherwise.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Presigned links live at most a week, as at S3.
const PRESIGNED_SECS_MAX: u64 = 7 * 24 * 3600;

/// One pair of S3 credentials.
#[derive(Clone)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
}

/// Serves S3 on `listener` until the task is dropped.
pub async fn serve(listener: TcpListener, objects: Objects, credentials: Credentials) {
    let service = service(objects, credentials);
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
        let service = service.clone();
        tokio::spawn(async move {
            connection(socket, from, service).await;
            drop(slot);
        });
    }
}

fn service(objects: Objects, credentials: Credentials) -> S3Service {
    let mut config = S3Config::default();
    config.xml_max_body_size = 1 << 20; // 10,000 parts of a CompleteMultipartUpload take 0.9 MB
    config.post_object_max_file_size = 64 << 20; // the framework buffers form posts whole
    let mut builder = S3ServiceBuilder::new(objects);
    builder.set_auth(SimpleAuth::from_single(credentials.access_key_id, credentials.secret_access_key));
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

async fn connection(socket: tokio::net::TcpStream, from: SocketAddr, service: S3Service) {
    let handler = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let service = service.clone();
        async move {
            let request = request.map(Body::from);
            match refusal(&request) {
                Some((code, message)) => Ok(refuse(code, message)),
                None => service.call(request).await,
            }
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    if let Err(error) = builder.serve_connection(TokioIo::new(socket), handler).await {
        tracing::debug!(%from, %error, "s3: connection ended");
    }
}

/// What the framework would let through: SigV2, whose MAC is SHA-1 and compared byte by byte, and links valid for ever.
fn refusal(request: &HttpRequest) -> Option<(&'static str, &'static str)> {
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("");
    let query = request.uri().query().unwrap_or("");
    if authorization.starts_with("AWS ") || query.contains("AWSAccessKeyId=") {
        return Some(("InvalidRequest", "Signature version 2 is not supported: sign with version 4."));
    }
    let expires = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Expires="));
    match expires.map(str::parse::<u64>) {
        Some(Ok(secs)) if secs <= PRESIGNED_SECS_MAX => None,
        None => None,
        Some(_) => Some((
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be a number of seconds up to a week, 604800.",
        )),
    }
}

fn refuse(code: &str, message: &str) -> HttpResponse {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let mut response = HttpResponse::new(Body::from(body));
    *response.status_mut() = hyper::StatusCode::BAD_REQUEST;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/xml"));
    response
}
