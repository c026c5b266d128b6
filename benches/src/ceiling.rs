//! Call the engine in this process, as far as it can without anything of ours around it.

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use tokio::sync::oneshot;
use wasmtime::{
    Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::bindings::{Proxy, ProxyPre, http::types::Scheme},
};

/// More than any request here uses.
const FUEL: u64 = 20_000_000_000;

/// A component that is loaded and linked.
pub(crate) struct Ceiling {
    pre: ProxyPre<Guest>,
    is_metered: bool,
}

/// As hosts use it, or as it comes.
fn engine(is_metered: bool) -> Result<Engine> {
    let mut config = Config::new();
    if is_metered {
        config.consume_fuel(true).epoch_interruption(true);
        config.cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true);
    }
    config.wasm_backtrace_max_frames(None);
    Engine::new(&config).map_err(told)
}

fn told(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}

impl Ceiling {
    /// Machine code of a component.
    pub(crate) fn compile(wasm: &[u8], is_metered: bool) -> Result<Vec<u8>> {
        engine(is_metered)?.precompile_component(wasm).map_err(told)
    }

    pub(crate) fn load(code: &[u8], is_metered: bool) -> Result<Self> {
        let engine = engine(is_metered)?;
        // SAFETY: these bytes were made a moment ago by the function above.
        let component = unsafe { Component::deserialize(&engine, code) }.map_err(told)?;
        let mut linker = Linker::<Guest>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(told)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).map_err(told)?;
        let pre = linker.instantiate_pre(&component).and_then(ProxyPre::new).map_err(told)?;
        Ok(Self { pre, is_metered })
    }

    /// One request to an instance of its own, and the whole answer.
    pub(crate) async fn ask(&self) -> Result<()> {
        let guest = Guest {
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            outgoing: Outgoing,
        };
        let mut store = Store::new(self.pre.engine(), guest);
        if self.is_metered {
            store.set_fuel(FUEL).map_err(told)?;
            // Nobody moves the epoch here.
            store.set_epoch_deadline(1);
        }
        let body = Empty::<Bytes>::new().map_err(|never| -> wasmtime_wasi_http::Error { match never {} });
        let request = http::Request::get(crate::URL).body(body)?;
        let (given, answer) = oneshot::channel();
        let mut http = store.data_mut().http();
        let incoming = http.new_incoming_request(Scheme::Http, request).map_err(told)?;
        let out = http.new_response_outparam(given).map_err(told)?;
        let answered = tokio::spawn(async move {
            let answer = answer.await.context("no answer")?.map_err(|code| anyhow!("{code:?}"))?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(|error| anyhow!("{error}"))?.to_bytes();
            ensure!(status == 200 && !body.is_empty(), "it answered {status}");
            Ok(())
        });
        let proxy: Proxy = self.pre.instantiate_async(&mut store).await.map_err(told)?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, incoming, out).await.map_err(told)?;
        drop(store);
        answered.await?
    }
}

struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

/// What is measured asks nobody.
struct Outgoing;

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>);

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<Sent>> + Send> {
        Box::new(std::future::ready(Err(wasmtime_wasi_http::Error::HttpRequestDenied)))
    }
}
