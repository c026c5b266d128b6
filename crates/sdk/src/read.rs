//! Read a range of the bytes that lie in several parts.

use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
    object::Body,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_storage::{
    engine::{Coder, GetRequest, Provider},
    manifest::PageRef,
    seal::PartKey,
};
use hodei_types::{code::Shape, transport::Transport};
use std::{ops::Range, sync::Arc};

/// A bucket's coding, and who holds what it has.
#[derive(Clone)]
pub(crate) struct Holders {
    pub(crate) shape: Shape,
    pub(crate) roster: Arc<Vec<Provider>>,
}

/// One part: where it is, and what opens it.
pub(crate) struct Opened {
    pub(crate) key: PartKey,
    pub(crate) page: PageRef,
    pub(crate) size_bytes: u64,
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
    /// Bytes of one part.
    pub(crate) async fn read_part(&self, holders: &Holders, part: Opened, range: Range<u64>) -> Result<Body, Fault> {
        let blamed = self.clone();
        let request = GetRequest {
            shape: holders.shape,
            coder: Arc::new(Coder::new(part.key, &holders.shape)),
            roster: holders.roster.clone(),
            page: part.page,
            size_bytes: part.size_bytes,
            range,
            verdict: Arc::new(move |verdict| blamed.blame(verdict)),
        };
        Ok(self.0.engine.get(request).await?.map_err(Fault::from).boxed())
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
            async move { cloud.read_part(&holders, opened?, range).await }
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
