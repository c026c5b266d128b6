//! Ask an app one thing and take its host at its word: the transcript of the request, compared with what was answered.

use super::{
    Apps, RUNNING,
    host::{Billed, HostError, Question, hear, within},
    keep::Sight,
    now_ms,
};
use crate::fault::Fault;
use alloy_primitives::B256;
use hodei_ledger::wire::{WireError as FrameError, send};
use hodei_types::{
    app::{
        Seal,
        transcript::{Content, Outcome, Record, SAMPLES_MAX, Signed, headers_hash},
        wire::{Answer, CHUNK_BYTES_MAX, Header, Readings, Request},
    },
    transport::{APP, NodeKey, Peer, Transport},
};
use std::time::Duration;

/// What an answer may take beyond the deadline of its request: the wire both ways, and its turn.
const SLACK: Duration = Duration::from_secs(30);
/// A sample is a head and a frame.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(10);

/// What an app answered, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub lease: u64,
    pub node: NodeKey,
    /// None where the component failed before it answered.
    pub head: Option<(u16, Vec<Header>)>,
    pub body: Vec<u8>,
    pub readings: Readings,
    pub failure: Option<String>,
    /// Wei that it cost, if the app is on call.
    pub price: Option<u128>,
    /// What its host signs of it, if it was wanted.
    pub record: Option<Record>,
}

impl<T: Transport> Apps<T> {
    /// Asks a replica that is ready, or on call and starts for it, the nearest first, and pays as much as is due; with its host's signed transcript, if `wants`. That is asked
    /// for when the answer is over, and compared with it.
    pub async fn ask(&self, name: &str, question: &Question, body: &[u8], wants: bool) -> Result<Answered, Fault> {
        let record = self.record(name)?;
        let limit = Duration::from_millis(record.manifest.limits.deadline_ms) + SLACK;
        let mut spots = self.spots(&record).await?;
        spots.retain(|spot| matches!(spot.sight, Sight::Seen(state) if state.answers()));
        spots.sort_by_key(|spot| (spot.took, spot.lease.id));
        let mut last = "no replica is ready".to_owned();
        for spot in spots {
            let Some(peer) = &spot.peer else { continue };
            let pay = self.pay(&record, &spot.lease)?;
            let question = Question { lease: spot.lease.id, pay: pay.clone(), ..question.clone() };
            let mut asked = within(limit, exchange(&self.link, peer, &question, body, wants)).await;
            // Signed for more: once again.
            if let (Err(HostError::Unpaid(due)), Some(pay)) = (&asked, &pay)
                && pay.unpaid(*due)
            {
                asked = within(limit, exchange(&self.link, peer, &question, body, wants)).await;
            }
            if let Some(pay) = &pay {
                self.keep_seen(name, pay)?;
            }
            match asked {
                Ok((mut answered, signed)) => {
                    if wants {
                        let signed = signed.ok_or_else(|| away(name, "its host gives no transcript of it"))?;
                        self.compare(&signed, &question, &record.manifest.workload(), &answered, body)?;
                        answered.record = Some(Record { signed, body: body.to_vec() });
                    }
                    return Ok(answered);
                }
                Err(error) if error.is_untouched() => last = error.to_string(),
                Err(error) => return Err(away(name, error)),
            }
        }
        Err(away(name, last))
    }

    /// Whether a transcript says what was asked and answered.
    fn compare(
        &self,
        signed: &Signed,
        question: &Question,
        workload: &[u8; 32],
        answered: &Answered,
        body: &[u8],
    ) -> Result<(), Fault> {
        let (told, node) = (&signed.transcript, answered.node);
        let lied = |what, expected: String, found: String| Err(Fault::AppLied { node, what, expected, found });
        if told.node != node || signed.verify().is_err() {
            return lied("transcript", node.to_string(), told.node.to_string());
        }
        let place = |chain: u64, lease: u64, workload: &[u8; 32]| format!("{chain}/{lease}/{}", B256::from(*workload));
        let (expected, found) = (
            place(self.chain_id, answered.lease, workload),
            place(told.chain_id, told.lease, &told.manifest.workload()),
        );
        if expected != found {
            return lied("lease", expected, found);
        }
        let asked = (&told.method, &told.target, &told.headers, told.body);
        if asked != (&question.method, &question.target, &question.headers, Content::of(body)) {
            return lied("request", format!("{question:?}"), format!("{asked:?}"));
        }
        let outcome = outcome(answered);
        let mut lines = outcome.lines().into_iter().zip(told.outcome.lines());
        match lines.find(|(was, said)| was != said) {
            Some(((what, expected), (_, found))) => lied(what, expected, found),
            None => Ok(()),
        }
    }

    /// Requests that the hosts of an app's replicas wrote down, by lease, each in the order of its numbers; a host that
    /// does not answer says why. Each is its host's word for a running lease of this app, and nothing more.
    pub async fn samples(&self, name: &str) -> Result<Vec<(u64, NodeKey, Result<Vec<Record>, String>)>, Fault> {
        let record = self.record(name)?;
        let leases = self.leases(&record).await?.into_iter().filter(|lease| lease.state == RUNNING);
        let workload = record.manifest.workload();
        let asked = leases.map(|lease| async move {
            let node = NodeKey(lease.node.0);
            let said = match self.peer(node).await {
                Ok(peer) => self.samples_of(name, &peer, lease.id, &workload).await.map_err(|error| error.to_string()),
                Err(fault) => Err(fault.to_string()),
            };
            (lease.id, node, said)
        });
        Ok(futures::future::join_all(asked).await)
    }

    async fn samples_of(
        &self,
        name: &str,
        peer: &Peer,
        lease: u64,
        workload: &[u8; 32],
    ) -> Result<Vec<Record>, HostError> {
        let (mut records, mut from) = (Vec::new(), 0);
        while records.len() < SAMPLES_MAX {
            let at_ms = now_ms();
            let signature = self.viewer(name).sign(&Seal::bytes(self.chain_id, &peer.key, lease, at_ms));
            let asked = sample(&self.link, peer, Request::Sample { lease, from, seal: Seal { at_ms, signature } });
            let Some(record) = within(SAMPLE_TIMEOUT, asked).await? else { break };
            let told = &record.signed.transcript;
            let is_ours = (told.chain_id, told.lease, told.node) == (self.chain_id, lease, peer.key)
                && told.manifest.workload() == *workload
                && told.number >= from;
            if !is_ours || record.verify().is_err() {
                return Err(HostError::Other);
            }
            from = told.number.saturating_add(1);
            records.push(record);
        }
        Ok(records)
    }
}

fn away(name: &str, why: impl ToString) -> Fault {
    Fault::AppAway(name.to_owned(), why.to_string())
}

/// What a transcript of an answer has to say.
fn outcome(answered: &Answered) -> Outcome {
    let (status, headers) = match &answered.head {
        Some((status, headers)) => (Some(*status), headers_hash(headers)),
        None => (None, headers_hash(&[])),
    };
    let readings = &answered.readings;
    Outcome {
        status,
        headers,
        body: Content::of(&answered.body),
        fuel: readings.fuel,
        memory_peak_bytes: readings.memory_peak_bytes,
        bytes_in: readings.bytes_in,
        bytes_out: readings.bytes_out,
        failure: answered.failure.clone(),
    }
}

/// One request and its answer, whole, and the transcript of it, if it is wanted and given.
async fn exchange<T: Transport>(
    link: &T,
    peer: &Peer,
    question: &Question,
    body: &[u8],
    wants: bool,
) -> Result<(Answered, Option<Signed>), HostError> {
    let (mut sink, mut stream) = link.open(peer, APP).await?;
    let Question { lease, method, target, headers, pay } = question.clone();
    let voucher = pay.as_ref().map(|pay| pay.voucher());
    let mut billed = pay.map(Billed::new);
    let head = Request::Ask { lease, method, target, headers, voucher };
    // Who refuses may have answered before the last byte was sent: whether it was is told by what is heard.
    let sending = async {
        send(&mut sink, head.encode()).await?;
        for chunk in body.chunks(CHUNK_BYTES_MAX) {
            send(&mut sink, Request::Bytes(chunk.to_vec()).encode()).await?;
        }
        send(&mut sink, Request::End.encode()).await
    };
    let _: Result<(), FrameError> = sending.await;
    let mut answered = Answered {
        lease: question.lease,
        node: peer.key,
        head: None,
        body: Vec::new(),
        readings: Readings::default(),
        failure: None,
        price: None,
        record: None,
    };
    loop {
        let answer = hear(&mut stream).await?;
        if !matches!(answer, Answer::Head { .. } | Answer::Bytes(_)) {
            billed.iter_mut().for_each(|billed| billed.hear(&answer));
            answered.price = billed.as_ref().and_then(|billed| billed.price.get().copied());
        }
        match answer {
            Answer::Head { status, headers } if answered.head.is_none() => answered.head = Some((status, headers)),
            Answer::Bytes(bytes) if is_room(answered.body.len(), bytes.len()) => answered.body.extend(bytes),
            Answer::Done { readings, failure, due: _ } => {
                (answered.readings, answered.failure) = (readings, failure);
                break;
            }
            answer => return Err(HostError::of(answer)),
        }
    }
    if !wants {
        return Ok((answered, None));
    }
    // A host that knows nothing of transcripts closes the stream: then there is none.
    if send(&mut sink, Request::Transcribe.encode()).await.is_err() {
        return Ok((answered, None));
    }
    match hear(&mut stream).await {
        Ok(Answer::Transcript(signed)) => Ok((answered, signed.map(|signed| *signed))),
        Ok(_) | Err(_) => Ok((answered, None)),
    }
}

/// Whether an answer may be so much longer.
fn is_room(held: usize, more: usize) -> bool {
    (held + more) as u64 <= hodei_types::app::Limits::BODY_BYTES_MAX
}

/// One sample of a host's, with its body.
async fn sample<T: Transport>(link: &T, peer: &Peer, request: Request) -> Result<Option<Record>, HostError> {
    let (mut sink, mut stream) = link.open(peer, APP).await?;
    send(&mut sink, request.encode()).await?;
    let signed = match hear(&mut stream).await? {
        Answer::Transcript(Some(signed)) => *signed,
        Answer::Transcript(None) => return Ok(None),
        answer => return Err(HostError::of(answer)),
    };
    let body = match signed.transcript.body.bytes {
        0 => Vec::new(),
        _ => match hear(&mut stream).await? {
            Answer::Bytes(body) => body,
            answer => return Err(HostError::of(answer)),
        },
    };
    Ok(Some(Record { signed, body }))
}
