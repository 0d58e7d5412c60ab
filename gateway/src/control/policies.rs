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
    written: Policies,
    table: Arc<PolicyTable>,
}

impl CompiledPolicies {
    /// Compiles these policies, unless they are the ones in force.
    pub(super) fn update(&mut self, policies: &Policies, config: &PolicyConfig) {
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
