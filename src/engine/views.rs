//! Where the views of a dataflow stand.

use std::collections::BTreeMap;

use crate::spec::{Spec, ViewKind};

/// By view whose records stand in a topic, that topic of a dataflow.
pub fn view_topics(spec: &Spec, dataflow: &str) -> BTreeMap<String, String> {
    let written = spec.views.iter().filter(|view| !matches!(view.kind, ViewKind::Counts { .. }));
    written.map(|view| (view.name.clone(), format!("{dataflow}_{}", view.name))).collect()
}
