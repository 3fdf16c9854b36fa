//! Merging: small segments become fewer.
//!
//! Shape: the segments of a partition in; the same with some of them merged out.
//!
//! Invariants: merged is what follows each other; a record is rewritten about once for each
//! eightfold of the size of its segment. What is large stays.

use std::ops::Range;

use super::{ArchiveError, Keeper, SEGMENT_BYTES, Segment, WRITABLE, new_writer};
use crate::archive::{
    reader::{read, unreadable},
    segment::Reader,
};

/// So many segments of about one size are merged.
const MERGED: usize = 8;

impl Keeper {
    /// The segments of a partition with the last ones merged, where they are many.
    pub(super) fn merged(
        &self,
        place: usize,
        segments: &[Segment],
    ) -> Result<Option<Vec<Segment>>, ArchiveError> {
        let mut merged = None;
        while let Some(range) = due(merged.as_deref().unwrap_or(segments)) {
            let segments = merged.get_or_insert_with(|| segments.to_vec());
            let mut writer = new_writer(segments[range.start].from, &self.job.spec);
            for segment in &segments[range.clone()] {
                let unreadable = |error| unreadable(&self.store, segment, error);
                let mut reader = Reader::new(read(&self.store, segment)?).map_err(unreadable)?;
                while reader.look().map_err(unreadable)?.is_some() {
                    let record = reader.take().expect("it was looked at");
                    writer.push(record).expect(WRITABLE);
                }
                writer.reach(segment.to);
            }
            let made = writer.finish().expect(WRITABLE);
            segments.splice(range, [self.write(&format!("events/{place}"), made)?]);
        }
        Ok(merged)
    }
}

/// Which segments are to be merged now: the last ones, where there are many of about one size.
fn due(segments: &[Segment]) -> Option<Range<usize>> {
    let tier = |segment: &Segment| segment.bytes.max(1).ilog(MERGED as u64);
    let small = |segment: &&Segment| (segment.bytes as usize) < SEGMENT_BYTES / 4;
    let candidates = segments.iter().rev().take_while(small).count();
    let candidates = &segments[segments.len() - candidates..];
    let greatest = candidates.iter().map(tier).max()?;
    (0..=greatest).find_map(|size| {
        let run = candidates.iter().rev().take_while(|segment| tier(segment) <= size);
        let (of_all, of_size) = run.fold((0, 0), |(of_all, of_size), segment| {
            (of_all + 1, of_size + usize::from(tier(segment) == size))
        });
        (of_size >= MERGED).then(|| segments.len() - of_all..segments.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: u64) -> Segment {
        let (path, check) = (String::new(), String::new());
        Segment { path, from: 0, to: 1, rows: 1, bytes, first_ms: 0, last_ms: 0, check }
    }

    #[test]
    fn segments_stay_few_and_are_rewritten_seldom() {
        let (mut segments, mut rewritten, mut most) = (Vec::new(), 0, 0);
        for _ in 0..100_000 {
            segments.push(segment(5_000));
            while let Some(range) = due(&segments) {
                let bytes = segments[range.clone()].iter().map(|segment| segment.bytes).sum();
                rewritten += bytes;
                segments.splice(range, [segment(bytes)]);
            }
            most = most.max(segments.len());
        }
        let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        assert_eq!(bytes, 500_000_000);
        assert!(most < 60, "{most} segments");
        assert!(rewritten < 5 * bytes, "{}", rewritten as f64 / bytes as f64);
        assert!(segments.iter().all(|segment| segment.bytes < 40 << 20));
    }

    #[test]
    fn what_is_large_stays() {
        let large = SEGMENT_BYTES as u64;
        let mut segments = vec![segment(large), segment(100)];
        segments.extend((0..7).map(|_| segment(large)));
        assert_eq!(due(&segments), None);
        segments.extend((0..8).map(|_| segment(10)));
        assert_eq!(due(&segments), Some(9..17));
    }
}
