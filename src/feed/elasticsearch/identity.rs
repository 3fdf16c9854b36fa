//! Which collection an index is, as it says of itself.
//!
//! Shape: identities in, `{INDEX: {"uuid", "histories": {SHARD: HISTORY}}}`; whether they are of
//! one collection, and its shards, out.
//!
//! Invariants: an index that is made again has another uuid, one that is restored other histories;
//! where histories may not be asked for (the empty text) they may be any.

use std::collections::BTreeSet;

use serde_json::Value;

use super::api::Shard;

/// Whether two values of `identity` are of one collection.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return false };
    let is_same_shard = |ours: &Value, (number, history): (&String, &Value)| {
        history.as_str().is_some_and(|history| is_same_history(&ours[number], history))
    };
    let is_same_index = |(name, other): (&String, &Value)| {
        let Some(ours) = one.get(name) else { return false };
        let mut histories = other["histories"].as_object().into_iter().flatten();
        ours["uuid"] == other["uuid"]
            && ours["histories"].as_object().map(serde_json::Map::len)
                == other["histories"].as_object().map(serde_json::Map::len)
            && histories.all(|shard| is_same_shard(&ours["histories"], shard))
    };
    one.len() == other.len() && other.iter().all(is_same_index)
}

/// The shards of a collection, in their order.
pub(super) fn shards(identity: &Value) -> BTreeSet<Shard> {
    let mut shards = BTreeSet::new();
    for (index, is) in identity.as_object().into_iter().flatten() {
        for (number, _) in is["histories"].as_object().into_iter().flatten() {
            shards.extend(number.parse().map(|number| Shard { index: index.clone(), number }));
        }
    }
    shards
}

/// Whether all histories are said.
pub(super) fn is_whole(identity: &Value) -> bool {
    let indices = identity.as_object().into_iter().flatten();
    let mut histories = indices.flat_map(|(_, is)| is["histories"].as_object()).flatten();
    histories.all(|(_, history)| history.as_str().is_some_and(|history| !history.is_empty()))
}

/// Whether two histories may be one: where it may not be asked, none is said.
pub(super) fn is_same_history(one: &Value, other: &str) -> bool {
    one == other || one == "" || (one.is_string() && other.is_empty())
}

/// An identity with the histories that are known from before, where they may not be asked now.
pub(super) fn completed(mut now: Value, before: &Value) -> Value {
    for (name, index) in now.as_object_mut().into_iter().flatten() {
        let known = &before[name.as_str()]["histories"];
        for (shard, history) in index["histories"].as_object_mut().into_iter().flatten() {
            if history == "" && known[shard.as_str()].is_string() {
                *history = known[shard.as_str()].clone();
            }
        }
    }
    now
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(histories: [&str; 2]) -> Value {
        let [first, second] = histories;
        json!({ "people": { "uuid": "U", "histories": { "0": first, "1": second } } })
    }

    #[test]
    fn collections_are_one_unless_something_says_otherwise() {
        let known = of(["a", "b"]);
        for same in [["a", "b"], ["", "b"], ["", ""]] {
            assert!(is_same(&known, &of(same)) && is_same(&of(same), &known), "{same:?}");
        }
        let mut renamed = known.clone();
        renamed["people"]["uuid"] = "V".into();
        let mut fewer = known.clone();
        fewer["people"]["histories"].as_object_mut().expect("so").remove("1");
        let mut more = known.clone();
        more["others"] = known["people"].clone();
        for other in [of(["a", "c"]), of(["", "c"]), renamed, fewer, more, json!({}), Value::Null] {
            assert!(!is_same(&known, &other) && !is_same(&other, &known), "{other}");
        }
    }

    #[test]
    fn shards_and_whether_all_is_said() {
        let shard = |number| Shard { index: "people".to_owned(), number };
        assert_eq!(shards(&of(["a", "b"])).into_iter().collect::<Vec<_>>(), [shard(0), shard(1)]);
        assert!(is_whole(&of(["a", "b"])) && !is_whole(&of(["a", ""])));
    }

    #[test]
    fn what_is_not_said_for_a_while_is_as_it_was() {
        let known = of(["a", "b"]);
        assert_eq!(completed(of(["", ""]), &known), known);
        assert_eq!(completed(of(["", "c"]), &known), of(["a", "c"]));
        assert_eq!(completed(known.clone(), &of(["", "z"])), known);
        assert_eq!(completed(of(["", "b"]), &Value::Null), of(["", "b"]));
        // So one that was restored while nobody could tell is told apart once somebody can.
        assert!(!is_same(&completed(of(["", ""]), &known), &of(["a", "c"])));
    }
}
