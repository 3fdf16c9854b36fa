//! Which documents are gone: found by counting.
//!
//! Shape: the numbers that are held of a shard and a count of ranges of numbers in; those numbers
//! that the shard has no document of out.
//!
//! Invariants: exact, where all counts are of one point in time and everything it holds was taken.
//! Asks for as many ranges as a question may have, of which those that differ are cut further: few
//! questions where few are gone, wherever they stand.

/// Ranges of one question; Elasticsearch takes 65,536 by default.
const RANGES_MAX: usize = 4_096;

/// Counts the documents in ranges, each from a number to before another.
pub type Count<'c, E> = dyn FnMut(&[(i64, i64)]) -> Result<Vec<u64>, E> + 'c;

/// The numbers, of those that are held (sorted), that are gone.
pub fn gone<E>(held: &[i64], count: &mut Count<'_, E>) -> Result<Vec<i64>, E> {
    let mut gone = Vec::new();
    // Parts of `held`, each of which lacks something.
    let mut differing = vec![held];
    while !differing.is_empty() {
        let pieces_each = (RANGES_MAX / differing.len()).max(2);
        let pieces: Vec<&[i64]> = differing
            .drain(..)
            .flat_map(|part| part.chunks(part.len().div_ceil(pieces_each).max(1)))
            .collect();
        for pieces in pieces.chunks(RANGES_MAX) {
            let bound = |piece: &&[i64]| (piece[0], piece[piece.len() - 1] + 1);
            let bounds: Vec<(i64, i64)> = pieces.iter().map(bound).collect();
            for (piece, found) in pieces.iter().zip(count(&bounds)?) {
                match found {
                    0 => gone.extend_from_slice(piece),
                    found if found < piece.len() as u64 => differing.push(piece),
                    _ => {}
                }
            }
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn found(held: &[i64], there: &[i64]) -> (Vec<i64>, usize) {
        let mut questions = 0;
        let mut count = |ranges: &[(i64, i64)]| {
            questions += 1;
            assert!(ranges.len() <= RANGES_MAX);
            let within = |(from, to): &(i64, i64)| {
                there.partition_point(|number| number < to)
                    - there.partition_point(|number| number < from)
            };
            Ok::<_, Infallible>(ranges.iter().map(|range| within(range) as u64).collect())
        };
        let Ok(mut gone) = gone(held, &mut count);
        gone.sort_unstable();
        (gone, questions)
    }

    proptest! {
        #[test]
        fn those_that_are_gone_are_found(
            held in proptest::collection::btree_set(0_i64..100_000, 0..5_000),
            every in 1_usize..50,
        ) {
            let held: Vec<i64> = held.into_iter().collect();
            let is_gone = |(place, _): &(usize, &i64)| place % every == 0;
            let (gone, there): (Vec<_>, Vec<_>) = held.iter().enumerate().partition(is_gone);
            let numbers =
                |of: Vec<(usize, &i64)>| of.into_iter().map(|(_, n)| *n).collect::<Vec<_>>();
            prop_assert_eq!(found(&held, &numbers(there)).0, numbers(gone));
        }
    }

    #[test]
    fn few_that_are_gone_take_few_questions() {
        let held: Vec<i64> = (0..200_000).map(|n| n * 3).collect();
        let without = |every: usize| {
            let there: Vec<i64> =
                held.iter().enumerate().filter(|(n, _)| n % every != 0).map(|(_, n)| *n).collect();
            let (gone, questions) = found(&held, &there);
            assert_eq!(gone.len(), 200_000_usize.div_ceil(every));
            questions
        };
        assert_eq!(found(&held, &held), (Vec::new(), 1));
        assert!(without(200_000) <= 2);
        assert!(without(2_000) <= 4);
        assert!(without(200) <= 20);
    }
}
