//! `tributary schema`: the JSON Schema of specs, for editors.

use clap::Args;

use super::{Failure, print};
use crate::spec::json_schema;

/// Print the JSON Schema of specs, for completion and hints in an editor.
///
/// It is also kept as docs/spec.schema.json. With the "Even Better TOML" plug-in, for one, begin a
/// spec with the line: #:schema ../docs/spec.schema.json
#[derive(Debug, Args)]
pub(super) struct Schema {}

impl Schema {
    pub(super) fn run(self) -> Result<(), Failure> {
        print(&format!("{:#}\n", json_schema()))
    }
}
