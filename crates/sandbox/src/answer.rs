//! Ask one fresh instance one thing, and tell what it gives while it gives it.

use crate::{
    Failure, Readings,
    guest::{Guest, Linked, Printed},
    limit::{CHUNK_BYTES_MAX, Limits},
    message::{Command, Request, Tell, header_bytes, headers, words},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::{
        bindings::http::types::{ErrorCode, Scheme},
        body::HyperOutgoingBody,
    },
};

pub(crate) enum Asked {
    Request(Request),
    Run(Command),
}

/// Runs it, and tells the answer and its end. Whoever listens may stop; then there is nobody to tell.
pub(crate) async fn answer(
    linked: Linked,
    limits: Limits,
    asked: Asked,
    body: mpsc::Receiver<Bytes>,
    tell: mpsc::Sender<Tell>,
) {
    let begun = Instant::now();
    let mut run = Run { limits, deadline: begun, readings: Readings::default(), log: Vec::new(), tell: tell.clone() };
    run.deadline += run.limits.deadline;
    let ended = match (linked, asked) {
        (Linked::Http(pre), Asked::Request(request)) => run.request(&pre, request, body).await,
        (Linked::Command(pre), Asked::Run(command)) => run.command(&pre, &command, body).await,
        _ => Err(Failure::Kind),
    };
    let Run { mut readings, log, .. } = run;
    readings.wall = begun.elapsed();
    tell.send(Tell::Done { readings, failure: ended.err(), log }).await.ok();
}

struct Run {
    limits: Limits,
    deadline: Instant,
    readings: Readings,
    log: Vec<u8>,
    tell: mpsc::Sender<Tell>,
}

impl Run {
    async fn request(
        &mut self,
        pre: &wasmtime_wasi_http::p2::bindings::ProxyPre<Guest>,
        request: Request,
        body: mpsc::Receiver<Bytes>,
    ) -> Result<(), Failure> {
        let circumstance = request.circumstance.clone();
        let parts = request.parts().map_err(|error| Failure::Request(words(error)))?;
        let read = Arc::new(AtomicU64::new(header_bytes(&parts.headers) as u64));
        let body = self.hear(body).await?;
        let incoming = http::Request::from_parts(parts, Incoming { body, read: read.clone() });
        let made = Guest::store(pre.engine(), &self.limits, &circumstance, None, self.deadline);
        let (mut store, printed) = made.map_err(trapped)?;
        let (given, giving) = oneshot::channel();
        let mut http = store.data_mut().http();
        let incoming = http.new_incoming_request(Scheme::Http, incoming);
        let incoming = incoming.map_err(|error| Failure::Request(words(format!("{error:#}"))))?;
        let out = http.new_response_outparam(given).map_err(trapped)?;
        let giving = tokio::spawn(give(giving, self.tell.clone(), self.limits.response_bytes_max));
        let mut instantiated_in = None;
        let ran = tokio::time::timeout_at(self.deadline, async {
            let begun = Instant::now();
            let proxy = pre.instantiate_async(&mut store).await?;
            instantiated_in = Some(begun.elapsed());
            proxy.wasi_http_incoming_handler().call_handle(&mut store, incoming, out).await
        });
        let ran = ran.await.unwrap_or_else(|_| Err(Trap::Interrupt.into()));
        let ran = self.read(store, instantiated_in, &printed, ran);
        // The instance is gone, and with it the other end of what is given.
        let given = giving.await.map_err(|error| Failure::Trap(words(error)))?;
        self.readings.bytes_in = read.load(Ordering::Relaxed);
        self.readings.bytes_out = given.bytes;
        match given.failure {
            // Whatever it did when nobody took more of its answer, this came first.
            Some(too_long @ Failure::ResponseTooLong(_)) => Err(too_long),
            failure => ran.and(failure.map_or(Ok(()), Err)),
        }
    }

    async fn command(
        &mut self,
        pre: &wasmtime_wasi::p2::bindings::CommandPre<Guest>,
        command: &Command,
        body: mpsc::Receiver<Bytes>,
    ) -> Result<(), Failure> {
        let input = self.hear(body).await?;
        self.readings.bytes_in = (command.bytes() + input.len()) as u64;
        let with = Some((command, input));
        let made = Guest::store(pre.engine(), &self.limits, &command.circumstance, with, self.deadline);
        let (mut store, printed) = made.map_err(trapped)?;
        let mut instantiated_in = None;
        let ran = tokio::time::timeout_at(self.deadline, async {
            let begun = Instant::now();
            let entered = pre.instantiate_async(&mut store).await?;
            instantiated_in = Some(begun.elapsed());
            let ended = entered.wasi_cli_run().call_run(&mut store).await?;
            ended.map_err(|()| wasmtime::Error::from(I32Exit(1)))
        });
        let ran = ran.await.unwrap_or_else(|_| Err(Trap::Interrupt.into()));
        let ran = self.read(store, instantiated_in, &printed, ran);
        let answer = printed.answer.contents();
        self.readings.bytes_out = answer.len() as u64;
        for chunk in answer.chunks(CHUNK_BYTES_MAX) {
            // Nobody listens: there is nobody to tell that either.
            self.tell.send(Tell::Bytes(chunk.to_vec())).await.ok();
        }
        ran
    }

    /// All of a body. It is whole before the component begins, so that how it arrived is nothing the component could
    /// tell: what is run again hears the same.
    async fn hear(&self, mut body: mpsc::Receiver<Bytes>) -> Result<Bytes, Failure> {
        let mut whole = Vec::new();
        let hearing = tokio::time::timeout_at(self.deadline, async {
            while let Some(bytes) = body.recv().await {
                whole.extend_from_slice(&bytes);
            }
        });
        hearing.await.map_err(|_| Failure::Deadline)?;
        Ok(whole.into())
    }

    /// Reads the meters of a store that is done, and says how it ended.
    fn read(
        &mut self,
        store: Store<Guest>,
        instantiated_in: Option<Duration>,
        printed: &Printed,
        ran: wasmtime::Result<()>,
    ) -> Result<(), Failure> {
        // Without fuel metering there would be an error instead, and the engine is made with it.
        let left = store.get_fuel().unwrap_or(0);
        let guest = store.data();
        self.readings.fuel = self.limits.fuel_max.saturating_sub(left);
        self.readings.memory_peak_bytes = guest.memory.peak;
        self.readings.memory_refusals = guest.memory.refusals;
        self.readings.outgoing_refusals = guest.outgoing.refusals;
        self.readings.instantiated_in = instantiated_in.unwrap_or_default();
        self.log = printed.log.contents().to_vec();
        let is_starved = instantiated_in.is_none() && guest.memory.refusals > 0;
        ran.map_err(|error| if is_starved { Failure::Memory } else { trapped(error) }).or_else(
            |failure| match failure {
                Failure::Exit(0) => Ok(()),
                failure => Err(failure),
            },
        )
    }
}

fn trapped(error: wasmtime::Error) -> Failure {
    match (error.downcast_ref::<Trap>(), error.downcast_ref::<I32Exit>()) {
        (Some(Trap::OutOfFuel), _) => Failure::Fuel,
        (Some(Trap::Interrupt), _) => Failure::Deadline,
        (_, Some(I32Exit(code))) => Failure::Exit(*code),
        _ => Failure::Trap(words(format!("{error:#}"))),
    }
}

/// The body that the agent sent, as the component reads it: in pieces of one length, however it came.
struct Incoming {
    body: Bytes,
    read: Arc<AtomicU64>,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.body.len().min(CHUNK_BYTES_MAX);
        if next == 0 {
            return Poll::Ready(None);
        }
        let bytes = self.body.split_to(next);
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

struct Given {
    bytes: u64,
    failure: Option<Failure>,
}

/// Tells the answer's head and body as the component gives them.
async fn give(
    answer: oneshot::Receiver<Result<hyper::Response<HyperOutgoingBody>, ErrorCode>>,
    tell: mpsc::Sender<Tell>,
    limit: u64,
) -> Given {
    let mut bytes = 0;
    let failure = match answer.await {
        Err(_) => Some(Failure::NoAnswer),
        Ok(Err(code)) => Some(Failure::Answered(words(format!("{code:?}")))),
        Ok(Ok(response)) => pass(response, &tell, limit, &mut bytes).await.err(),
    };
    Given { bytes, failure }
}

async fn pass(
    response: hyper::Response<HyperOutgoingBody>,
    tell: &mpsc::Sender<Tell>,
    limit: u64,
    given: &mut u64,
) -> Result<(), Failure> {
    let (parts, mut body) = response.into_parts();
    let headers = headers(&parts.headers).map_err(Failure::Answered)?;
    let nobody = |_| Failure::Answered("nobody listens any more".into());
    tell.send(Tell::Head { status: parts.status.as_u16(), headers }).await.map_err(nobody)?;
    *given = header_bytes(&parts.headers) as u64;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Answered(words(error)))?;
        // Trailers of answers are not carried.
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > limit {
            return Err(Failure::ResponseTooLong(limit));
        }
        *given += data.len() as u64;
        for chunk in data.chunks(CHUNK_BYTES_MAX) {
            tell.send(Tell::Bytes(chunk.to_vec())).await.map_err(nobody)?;
        }
    }
    Ok(())
}
