//! Carry one request to its component and the answer back, as they come.

use crate::{
    Error, Failure, Readings, Sandbox,
    limit::{CHUNK_BYTES_MAX, GRACE},
    message::{Ask, Tell, header_map},
};
use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::Instant;

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub readings: Readings,
    /// Why the answer is not whole, if it is not.
    pub failure: Option<Failure>,
    /// What it printed, as far as the limit allows.
    pub log: Vec<u8>,
}

/// One request that is asked, and its answer. Read it until there is no more: a sandbox whose exchange was left
/// answers no other.
pub struct Exchange<'a, B> {
    sandbox: &'a mut Sandbox,
    /// What is left to be sent.
    body: Option<B>,
    chunk: Bytes,
    sent: u64,
    received: u64,
    deadline: Instant,
    head: Option<(StatusCode, HeaderMap)>,
    /// Came before anybody asked for it.
    next: Option<Bytes>,
    end: Option<End>,
}

impl<'a, B> Exchange<'a, B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    pub(crate) async fn begin(sandbox: &'a mut Sandbox, ask: &Ask, body: B) -> Result<Self, Error> {
        if sandbox.is_busy {
            return Err(Error::Left);
        }
        let wire = &mut sandbox.process.wire;
        wire.outgoing.queue(ask)?;
        sandbox.is_busy = true;
        let deadline = Instant::now() + sandbox.limits.deadline + GRACE;
        let mut exchange = Self {
            sandbox,
            body: Some(body),
            chunk: Bytes::new(),
            sent: 0,
            received: 0,
            deadline,
            head: None,
            next: None,
            end: None,
        };
        match exchange.step().await? {
            Tell::Head { status, headers } => {
                let status = StatusCode::from_u16(status).map_err(|error| Error::Request(error.to_string()))?;
                exchange.head = Some((status, header_map(headers).map_err(Error::Request)?));
            }
            Tell::Bytes(bytes) => exchange.next = Some(bytes.into()),
            Tell::Done { readings, failure, log } => exchange.finish(readings, failure, log),
            other => return Err(Error::unexpected("an answer", &other)),
        }
        Ok(exchange)
    }

    /// Status and headers. A command has none, nor has a component that failed before it answered.
    pub fn head(&self) -> Option<&(StatusCode, HeaderMap)> {
        self.head.as_ref()
    }

    /// The answer's next bytes, or `None` when it is over: [`Exchange::end`] then says how.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(next) = self.next.take() {
            return self.counted(next).map(Some);
        }
        if self.end.is_some() {
            return Ok(None);
        }
        match self.step().await? {
            Tell::Bytes(bytes) => self.counted(bytes.into()).map(Some),
            Tell::Done { readings, failure, log } => {
                self.finish(readings, failure, log);
                Ok(None)
            }
            other => Err(Error::unexpected("an answer's bytes or end", &other)),
        }
    }

    /// Reads what is left, and says how it ended.
    pub async fn end(mut self) -> Result<End, Error> {
        while self.chunk().await?.is_some() {}
        self.end.take().ok_or(Error::Closed)
    }

    /// Reads the whole answer, which the limits bound, and says how it ended.
    pub async fn whole(mut self) -> Result<(Option<(StatusCode, HeaderMap)>, Vec<u8>, End), Error> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        let end = self.end.take().ok_or(Error::Closed)?;
        Ok((self.head.take(), body, end))
    }

    fn finish(&mut self, readings: Readings, failure: Option<Failure>, log: Vec<u8>) {
        self.sandbox.is_busy = false;
        self.end = Some(End { readings, failure, log });
    }

    /// The runner keeps the limit; one that does not is not believed.
    fn counted(&mut self, bytes: Bytes) -> Result<Bytes, Error> {
        self.received += bytes.len() as u64;
        match self.received > self.sandbox.limits.response_bytes_max {
            true => Err(Error::Unexpected { expected: "an answer within its limit", found: "a longer one" }),
            false => Ok(bytes),
        }
    }

    /// Sends of the body what can be sent until something is told. A runner that breaks the rules is killed.
    async fn step(&mut self) -> Result<Tell, Error> {
        match self.converse().await {
            Ok(told) => Ok(told),
            Err(error) => Err(error.with_end(&mut self.sandbox.process).await),
        }
    }

    async fn converse(&mut self) -> Result<Tell, Error> {
        let late = tokio::time::sleep_until(self.deadline);
        tokio::pin!(late);
        loop {
            let wire = &mut self.sandbox.process.wire;
            let is_idle = wire.outgoing.is_empty();
            if is_idle && !self.chunk.is_empty() {
                let bytes = self.chunk.split_to(self.chunk.len().min(CHUNK_BYTES_MAX));
                wire.outgoing.queue(&Ask::Bytes(bytes.to_vec()))?;
                continue;
            }
            tokio::select! {
                // What is told first counts: a component need not hear a request's end to answer it.
                biased;
                told = wire.incoming.receive() => return told?.ok_or(Error::Closed),
                () = &mut late => return Err(Error::Unresponsive),
                flushed = wire.outgoing.flush(), if !is_idle => flushed?,
                frame = frame(&mut self.body), if is_idle && self.body.is_some() => match frame {
                    Some(Ok(frame)) => {
                        // Trailers of requests are not carried.
                        let data = frame.into_data().unwrap_or_default();
                        self.sent += data.remaining() as u64;
                        let limit = self.sandbox.limits.request_bytes_max;
                        if self.sent > limit {
                            return Err(Error::Request(format!("its body is longer than {limit} bytes")));
                        }
                        self.chunk = data;
                    }
                    Some(Err(error)) => return Err(Error::Body(error.to_string())),
                    None => {
                        self.body = None;
                        wire.outgoing.queue(&Ask::End)?;
                    }
                },
            }
        }
    }
}

async fn frame<B: Body + Unpin>(body: &mut Option<B>) -> Option<Result<hyper::body::Frame<B::Data>, B::Error>> {
    match body {
        Some(body) => body.frame().await,
        None => std::future::pending().await,
    }
}
