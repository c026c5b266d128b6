//! Answer `/metrics`, `/health` and `/status` on a local HTTP door.
//!
//! `/metrics` is Prometheus text, `/health` 200 while every loop is well and 503 with the names of those
//! that are not, `/status` JSON for `hodei status`. The door is on loopback and checks `Host`, so that no
//! web page a browser shows can read it by a name of its own.

use crate::tasks::Tasks;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};

/// A peer that has not sent its headers by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections served at once: a scraper, a person, and room to look.
const CONNECTIONS_MAX: usize = 32;

/// What the door tells. Both closures run per request and must be quick.
#[derive(Clone)]
pub struct Views {
    /// Prometheus text of everything registered.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// One JSON object about the node.
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    pub tasks: Tasks,
}

/// Binds and serves until the returned future is dropped; resolves only if the socket fails.
pub async fn serve(
    address: SocketAddr,
    views: Views,
) -> std::io::Result<(SocketAddr, impl Future<Output = std::io::Error> + Send)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/status", get(status))
        .layer(middleware::from_fn(local_host_only))
        .with_state(views);
    Ok((bound, accept(listener, router)))
}

async fn accept(listener: TcpListener, router: Router) -> std::io::Error {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Connections end with this future: none outlives the door.
    let mut open = tokio::task::JoinSet::new();
    loop {
        let permit = free.clone().acquire_owned().await.expect("never closed");
        while open.try_join_next().is_some() {}
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) if passing(&error) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(error) => return error,
        };
        let service = TowerToHyperService::new(router.clone());
        open.spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A client that goes away in the middle is its own affair.
            let _ = builder.serve_connection(TokioIo::new(socket), service).await;
            drop(permit);
        });
    }
}

/// Whether accepting may succeed later: the connection went away, or file descriptors ran out for now.
fn passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

async fn local_host_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    if matches!(name, "localhost" | "127.0.0.1" | "::1") {
        return next.run(request).await;
    }
    answer(StatusCode::FORBIDDEN, "text/plain; charset=utf-8", "ask for localhost\n".into())
}

async fn metrics(State(views): State<Views>) -> Response {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (views.metrics)())
}

async fn health(State(views): State<Views>) -> Response {
    let unwell = views.tasks.unwell();
    let (code, text) = if unwell.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("unwell: {}\n", unwell.join(", ")))
    };
    answer(code, "text/plain; charset=utf-8", text)
}

async fn status(State(views): State<Views>) -> Response {
    let mut status = (views.status)();
    status["tasks"] = serde_json::to_value(views.tasks.list()).expect("plain values");
    answer(StatusCode::OK, "application/json", format!("{status}\n"))
}

fn answer(code: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, path: &str, host: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let text = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        socket.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn tells_health_by_loops_and_only_to_local_names() {
        let tasks = Tasks::default();
        let task = tasks.enter("prove");
        let views = Views {
            metrics: Arc::new(|| "hodei_up 1\n".into()),
            status: Arc::new(|| serde_json::json!({"name": "a"})),
            tasks,
        };
        let (address, door) = serve("127.0.0.1:0".parse().unwrap(), views).await.unwrap();
        let door = tokio::spawn(door);

        assert!(ask(address, "/metrics", "localhost").await.ends_with("hodei_up 1\n"));
        assert!(ask(address, "/health", "127.0.0.1:7").await.starts_with("HTTP/1.1 200"));
        task.failed(&"no answer");
        let health = ask(address, "/health", "[::1]:7").await;
        assert!(health.starts_with("HTTP/1.1 503") && health.contains("prove"), "{health}");
        let status = ask(address, "/status", "localhost").await;
        assert!(status.contains("\"name\":\"a\"") && status.contains("no answer"), "{status}");
        assert!(ask(address, "/status", "evil.example").await.starts_with("HTTP/1.1 403"));
        door.abort();
    }
}
