//! `tributary check`: is a spec sound?

use std::path::PathBuf;

use clap::Args;

use super::{Failure, print};
use crate::spec::Spec;

/// Check a spec: report all that is wrong in it, with line, cause and the nearest right name.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The dataflow's TOML file.
    spec: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = Spec::load(&self.spec)?;
        let Spec { name, columns, lookups, views, .. } = &spec;
        print(&format!(
            "{}: dataflow \"{name}\" is sound: {} columns, {} lookups, {} views\n",
            self.spec.display(),
            columns.len(),
            lookups.len(),
            views.len(),
        ))
    }
}
