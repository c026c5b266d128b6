//! Read a few bytes of a pack, each from the one shard it lies in.
//!
//! ```text
//! page (kept from the last time) → the data shards' chunks that hold the range → unpad → bytes
//!                                              └ one fails or is late ─► any k shards of the stripe, as ever
//! ```
//! The code is systematic and a pack's stripes are not sealed as a whole, so a member of 1 KiB costs 2 or 3 KiB from
//! one provider instead of k shards. Chunks are checked against the shard's id; the member's own seal is its
//! reader's affair.

use super::{
    Engine,
    asked::Pulse,
    get::{Fetch, GetError, GetRequest, LATE_TIMES},
    stripe::plain_bytes,
};
use crate::manifest::{Holder, Page};
use bytes::Bytes;
use commonware_runtime::{Clock, Spawner};
use futures::{
    TryStreamExt as _,
    future::{Either, select, try_join_all},
    pin_mut,
};
use hodei_types::{
    slice::{CHUNK_BYTES, ShardId},
    transport::Transport,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

/// Pages of packs that are kept: 2 kB each, and the next members of a pack cost no request for them.
const PAGES_MAX: usize = 1024;
/// A slice is late after three times what its provider usually needs, but not before this: the other way costs
/// hundreds of times the bytes, and a machine that is merely busy must not be made busier.
const LATE_MIN: Duration = Duration::from_millis(500);

/// Pages read lately. A page's id is its hash, so it never changes.
#[derive(Clone, Default)]
pub(super) struct Pages(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    by_id: BTreeMap<ShardId, Arc<Page>>,
    /// The oldest first.
    order: VecDeque<ShardId>,
}

impl Pages {
    fn get(&self, id: &ShardId) -> Option<Arc<Page>> {
        self.0.lock().expect("no panic under this lock").by_id.get(id).cloned()
    }

    fn keep(&self, id: ShardId, page: &Arc<Page>) {
        let mut state = self.0.lock().expect("no panic under this lock");
        if state.by_id.insert(id, page.clone()).is_none() {
            state.order.push_back(id);
        }
        if state.order.len() > PAGES_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.by_id.remove(&oldest);
        }
    }
}

/// Bytes of one shard that are wanted.
struct Piece {
    stripe: u32,
    shard: u8,
    from: usize,
    len: usize,
}

impl<E, T> Engine<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// A range of a pack's bytes, of a few members at most. The request's coder is [`super::Coder::of_pack`].
    pub async fn get_slice(&self, request: GetRequest) -> Result<Bytes, GetError> {
        let fetch = Fetch::new(self.clone(), request.clone());
        if let Some(bytes) = fetch.slice().await? {
            return Ok(bytes);
        }
        let body = self.get(request).await?;
        Ok(body.map_ok(|piece| piece.to_vec()).try_concat().await?.into())
    }
}

impl<E, T> Fetch<E, T>
where
    E: Clock + Spawner,
    T: Transport,
{
    /// `None` if some shard cannot be read as it is.
    async fn slice(&self) -> Result<Option<Bytes>, GetError> {
        let page = self.known_page().await?;
        let Some(pieces) = self.pieces(&page) else { return Ok(None) };
        let read = pieces.into_iter().map(|piece| self.piece(&page, piece));
        Ok(try_join_all(read).await.ok().map(|pieces| pieces.concat().into()))
    }

    async fn known_page(&self) -> Result<Arc<Page>, GetError> {
        let listed = &self.request.page;
        if let Some(page) = self.engine.pages.get(&listed.id) {
            return Ok(page);
        }
        let page = Arc::new(Page::open(&listed.id, &self.page(listed).await?)?);
        self.engine.pages.keep(listed.id, &page);
        Ok(page)
    }

    /// Where the range lies; `None` if the page does not fit the pack, which the long way then says.
    fn pieces(&self, page: &Page) -> Option<Vec<Piece>> {
        let GetRequest { shape, coder, size_bytes, range, .. } = &self.request;
        let plain = plain_bytes(shape);
        let fits =
            (page.k, page.n) == (shape.k(), shape.n()) && page.stripes.len() as u64 == size_bytes.div_ceil(plain);
        if !fits || range.end > *size_bytes {
            return None;
        }
        let (mut at, mut pieces) = (range.start, Vec::new());
        while at < range.end {
            let stripe = at / plain;
            let start = stripe * plain;
            let len = coder.shard_bytes((size_bytes - start).min(plain) as usize);
            if page.stripes[stripe as usize].shard_bytes as usize != len {
                return None;
            }
            let within = (at - start) as usize;
            let end = (range.end - start).min(plain) as usize;
            let (shard, from) = (within / len, within % len);
            let take = (len - from).min(end - within);
            pieces.push(Piece { stripe: stripe as u32, shard: shard as u8, from, len: take });
            at += take as u64;
        }
        Some(pieces)
    }

    async fn piece(&self, page: &Page, piece: Piece) -> Result<Vec<u8>, ()> {
        let Piece { stripe, shard, from, len } = piece;
        let (peers, context) = (&self.engine.peers, &self.engine.context);
        let listed = &page.stripes[stripe as usize];
        let id = listed.ids[usize::from(shard)];
        // Whoever took it last has it, not whom its page names.
        let roster = &self.request.roster;
        let of = |deal: u64| roster.iter().find(|provider| provider.deal == deal);
        let laid = self.request.overlay.deals(&id).rev().find_map(of);
        let holder = match laid {
            Some(provider) => Holder { node: provider.peer.key, deal: provider.deal },
            None => *page.holder(stripe as usize, shard).ok_or(())?,
        };
        if !self.nodes.contains_key(&holder.node) || peers.rank(&holder.node, context.current()) > 0 {
            return Err(());
        }
        let start = from / CHUNK_BYTES * CHUNK_BYTES;
        let end = (from + len).next_multiple_of(CHUNK_BYTES);
        let late = context.sleep((peers.latency(&holder.node) * LATE_TIMES).max(LATE_MIN));
        let pulse = Pulse::new(peers, holder.node);
        let read = self.read_range(&holder, id, listed.shard_bytes, start as u32..end as u32, &pulse);
        pin_mut!(read, late);
        let bytes = match select(read, late).await {
            Either::Left((Some(Ok(bytes)), _)) => bytes,
            _ => return Err(()),
        };
        let mut bytes = bytes.to_vec();
        self.request.coder.unpad(stripe, shard, start, &mut bytes);
        bytes.truncate(from - start + len);
        Ok(bytes.split_off(from - start))
    }
}
