//! Say over HTTP that nothing can be pushed there.
//!
//! Subscriptions want a WebSocket. The server below knows only an internal error for one that is asked over HTTP;
//! clients fall back to polling when they hear geth's answer instead, alone or in a batch.

use super::{fault, server::RESPONSE_BYTES_MAX};
use jsonrpsee::{
    server::{
        BatchResponseBuilder, MethodResponse,
        middleware::rpc::{Batch, BatchEntry, Notification, Request, RpcServiceT},
    },
    types::error::INTERNAL_ERROR_CODE,
};

/// Every call on its way to the methods.
#[derive(Clone)]
pub(super) struct Pushless<S>(pub(super) S);

impl<S> RpcServiceT for Pushless<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse, NotificationResponse = MethodResponse>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.0.clone();
        async move {
            let asks_push = matches!(request.method_name(), "eth_subscribe" | "eth_unsubscribe");
            let id = request.id.clone();
            let response = service.call(request).await;
            match response.as_error_code() {
                Some(INTERNAL_ERROR_CODE) if asks_push => MethodResponse::error(id, fault::pushless()),
                _ => response,
            }
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let mut answers = BatchResponseBuilder::new_with_limit(RESPONSE_BYTES_MAX as usize);
            let mut was_told = false;
            for entry in batch {
                let answer = match entry {
                    Ok(BatchEntry::Call(request)) => this.call(request).await,
                    Ok(BatchEntry::Notification(notification)) => {
                        was_told = true;
                        this.notification(notification).await;
                        continue;
                    }
                    Err(wrong) => {
                        let (error, id) = wrong.into_parts();
                        MethodResponse::error(id, error)
                    }
                };
                if let Err(too_large) = answers.append(answer) {
                    return too_large;
                }
            }
            // Whoever only told something is owed no answer; an empty batch is a wrong request.
            if answers.is_empty() && was_told {
                return MethodResponse::notification();
            }
            MethodResponse::from_batch(answers.finish())
        }
    }

    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.0.clone();
        async move { service.notification(notification).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonrpsee::{
        RpcModule,
        core::middleware::RpcServiceBuilder,
        server::{PendingSubscriptionSink, ServerBuilder},
    };
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// What a POST of `body` is answered.
    async fn post(address: std::net::SocketAddr, body: &Value) -> Value {
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    #[tokio::test]
    async fn a_subscription_over_http_is_refused_in_geths_words_alone_and_in_a_batch() {
        let mut module = RpcModule::new(());
        module.register_method("one", |_, (), _| 1).unwrap();
        let subscribe = |_, pending: PendingSubscriptionSink, _, _| async move {
            let _ = pending.accept().await;
        };
        module.register_subscription("eth_subscribe", "eth_subscription", "eth_unsubscribe", subscribe).unwrap();
        let server = ServerBuilder::new()
            .set_rpc_middleware(RpcServiceBuilder::new().layer_fn(Pushless))
            .build("127.0.0.1:0")
            .await
            .unwrap();
        let address = server.local_addr().unwrap();
        let _handle = server.start(module);

        let ask =
            |id: u64, method: &str| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": ["newHeads"] });
        for method in ["eth_subscribe", "eth_unsubscribe"] {
            let refused = post(address, &ask(7, method)).await;
            assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(7), &json!(-32601)), "{refused}");
            assert_eq!(refused["error"]["message"], "notifications not supported: open a WebSocket on this port");
        }
        let both = post(address, &json!([ask(1, "one"), ask(2, "eth_subscribe"), 3])).await;
        assert_eq!((&both[0]["result"], &both[1]["error"]["code"]), (&json!(1), &json!(-32601)), "{both}");
        assert_eq!((&both[2]["error"]["code"], both.as_array().map(Vec::len)), (&json!(-32600), Some(3)));
        assert_eq!(post(address, &ask(4, "none")).await["error"]["code"], -32601);
    }
}
