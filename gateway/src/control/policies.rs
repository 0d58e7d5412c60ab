//! The policies in force, compiled when they change and not with every snapshot.
//!
//! Owns the last ones that were read. Never judges.

use std::sync::Arc;

use federation_model::policy::Policies;
use gateway_core::policy::PolicyTable;

use crate::config::PolicyConfig;

/// Policies and their table.
#[derive(Debug, Default)]
pub(super) struct CompiledPolicies {
    written: Arc<Policies>,
    table: Arc<PolicyTable>,
}

impl CompiledPolicies {
    /// Compiles these policies, unless they are the ones in force.
    pub(super) fn update(&mut self, policies: &Arc<Policies>, config: &PolicyConfig) {
        // The same value is seen to be so without a look into it.
        if *policies == self.written {
            return;
        }
        self.written = policies.clone();
        let table = PolicyTable::compile(policies, &config.root_namespace, &config.trust_domain_aliases);
        self.table = Arc::new(table);
    }

    /// The table of the policies in force.
    pub(super) fn table(&self) -> Arc<PolicyTable> {
        self.table.clone()
    }
}
