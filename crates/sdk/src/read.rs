//! Read a range of the bytes that lie in several parts.
//!
//! A part is read stripe by stripe as it comes. A member of a pack is short: it is read and opened as a whole.

use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
    object::Body,
};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use hodei_storage::{
    engine::{Coder, Crowd, GetError, GetRequest, Provider},
    index::{Home, Part},
    manifest::PageRef,
    overlay::Overlay,
    pack,
    seal::{PartKey, SealError, Secret},
};
use hodei_types::{code::Shape, transport::Transport};
use std::{ops::Range, sync::Arc};

/// Who holds what a bucket has.
#[derive(Clone)]
pub(crate) struct Holders {
    pub(crate) roster: Arc<Vec<Provider>>,
    /// Where custodians put what they restored.
    pub(crate) overlay: Arc<Overlay>,
    /// Who has a part besides, by its page.
    pub(crate) crowd: Option<Circles>,
}

/// Gives whom to ask for a part beside its providers.
pub(crate) type Circles = Arc<dyn Fn(&PageRef) -> Arc<dyn Crowd> + Send + Sync>;

/// One part: where it is, and what opens it.
pub(crate) struct Opened {
    pub(crate) key: PartKey,
    /// How it was spread when it was stored.
    pub(crate) shape: Shape,
    pub(crate) page: PageRef,
    pub(crate) size_bytes: u64,
    /// Of a member of a pack, whose page that is.
    pub(crate) pack: Option<Within>,
}

/// A pack, and where in it.
pub(crate) struct Within {
    /// Takes its pads off.
    pub(crate) key: PartKey,
    pub(crate) size_bytes: u64,
    pub(crate) offset: u64,
}

impl Opened {
    /// A part of a bucket whose secret is `bucket`; `wrapping` wraps the part's own key.
    pub(crate) fn of(
        part: &Part,
        (network, id): (&[u8; 32], &[u8; 32]),
        bucket: &Secret,
        wrapping: &Secret,
    ) -> Result<Self, SealError> {
        let pack = match &part.home {
            Home::Own(_) => None,
            Home::Pack { pack, offset } => {
                let key = pack.key(network, id, bucket)?;
                Some(Within { key, size_bytes: pack.size_bytes, offset: *offset })
            }
        };
        let key = part.key(network, id, wrapping)?;
        Ok(Self { key, shape: part.stored().shape, page: part.page().clone(), size_bytes: part.size_bytes, pack })
    }
}

/// The range meant of `size` bytes: all of them where none is asked for.
pub(crate) fn within(size: u64, range: Option<Range<u64>>) -> Result<Range<u64>, Fault> {
    let range = range.unwrap_or(0..size);
    if range.start > range.end || range.end > size {
        return Err(Fault::Range { from: range.start, to: range.end, size });
    }
    Ok(range)
}

/// The parts a range touches, and which bytes of each.
pub(crate) fn cut<P: Clone>(parts: &[P], size_bytes: impl Fn(&P) -> u64, range: &Range<u64>) -> Vec<(P, Range<u64>)> {
    let (mut start, mut wanted) = (0u64, Vec::new());
    for part in parts {
        let end = start + size_bytes(part);
        let (from, to) = (range.start.clamp(start, end) - start, range.end.clamp(start, end) - start);
        if from < to {
            wanted.push((part.clone(), from..to));
        }
        start = end;
    }
    wanted
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Who holds what a bucket has now.
    pub(crate) async fn holders(&self, record: &Record) -> Result<Holders, Fault> {
        let roster = self.roster(record).await?;
        let overlay = self.overlay(record.id, record.state.overlay, &roster).await;
        Ok(Holders { roster, overlay, crowd: None })
    }

    /// Bytes of one part.
    pub(crate) async fn read_part(&self, holders: &Holders, part: Opened, range: Range<u64>) -> Result<Body, Fault> {
        let Some(within) = part.pack else {
            let coder = Coder::new(part.key, &part.shape);
            let request = self.request(holders, (part.shape, coder), part.page, part.size_bytes, range);
            return Ok(self.0.engine.get(request).await?.map_err(Fault::from).boxed());
        };
        let end = within.offset + pack::sealed_bytes(part.size_bytes);
        let coder = Coder::of_pack(within.key, &part.shape);
        let request = self.request(holders, (part.shape, coder), part.page, within.size_bytes, within.offset..end);
        let sealed = self.0.engine.get_slice(request).await?;
        let reason = |error: SealError| GetError::Open { stripe: 0, reason: error.to_string() };
        let plain = Bytes::from(pack::open(&part.key, &sealed).map_err(reason)?);
        let plain = plain.slice(range.start as usize..range.end as usize);
        Ok(stream::once(async move { Ok(plain) }).boxed())
    }

    /// All bytes of a pack, as its members were sealed.
    pub(crate) async fn read_pack(&self, holders: &Holders, pack: &Part, key: PartKey) -> Result<Vec<u8>, Fault> {
        let coder = Coder::of_pack(key, &pack.shape);
        let request =
            self.request(holders, (pack.shape, coder), pack.page().clone(), pack.size_bytes, 0..pack.size_bytes);
        let body = self.0.engine.get(request).await?;
        Ok(body.map_ok(|piece| piece.to_vec()).try_concat().await?)
    }

    pub(crate) fn request(
        &self,
        holders: &Holders,
        (shape, coder): (Shape, Coder),
        page: PageRef,
        size_bytes: u64,
        range: Range<u64>,
    ) -> GetRequest {
        let blamed = self.clone();
        GetRequest {
            shape,
            coder: Arc::new(coder),
            roster: holders.roster.clone(),
            overlay: holders.overlay.clone(),
            crowd: holders.crowd.as_ref().map(|of| of(&page)),
            page,
            size_bytes,
            range,
            verdict: Arc::new(move |verdict| blamed.blame(verdict)),
        }
    }

    /// Bytes of several, one after another; each is opened when its turn comes.
    pub(crate) fn read_parts<P: Send + 'static>(
        &self,
        holders: Holders,
        wanted: Vec<(P, Range<u64>)>,
        open: impl Fn(P) -> Result<Opened, Fault> + Send + 'static,
    ) -> Body {
        let cloud = self.clone();
        let body = stream::iter(wanted).then(move |(part, range)| {
            let (cloud, holders, opened) = (cloud.clone(), holders.clone(), open(part));
            async move { cloud.read_part(&holders, opened?, range).await }.boxed()
        });
        body.try_flatten().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_where_parts_end() {
        let sizes = [3u64, 0, 4, 2];
        let cut = |range: Range<u64>| -> Vec<(u64, Range<u64>)> { cut(&sizes, |size| *size, &range) };
        assert_eq!(cut(0..9), [(3, 0..3), (4, 0..4), (2, 0..2)], "an empty part is asked of nobody");
        assert_eq!(cut(2..4), [(3, 2..3), (4, 0..1)]);
        assert_eq!(cut(3..7), [(4, 0..4)]);
        assert_eq!(cut(5..5), []);
        assert_eq!(within(9, None).unwrap(), 0..9);
        assert_eq!(within(9, Some(9..9)).unwrap(), 9..9);
        for wrong in [8..10, Range { start: 5, end: 4 }] {
            assert!(matches!(within(9, Some(wrong)), Err(Fault::Range { size: 9, .. })));
        }
    }
}
