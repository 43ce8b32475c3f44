//! Several workloads of one pod: how their calls are told apart.

use std::fmt;
use std::sync::Arc;

use super::PortRange;
use crate::trace::Workload;

/// One rule of `workloads`.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadRule {
    /// Who makes its calls.
    pub uid: Option<u32>,
    /// Where it is called.
    pub port: Option<PortRange>,
    /// What its resource says.
    pub workload: Arc<Workload>,
}

impl fmt::Display for WorkloadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uid = self.uid.map(|uid| format!("uid={uid}"));
        let port = self.port.map(|port| format!("port={port}"));
        let conditions: Vec<_> = [uid, port].into_iter().flatten().collect();
        write!(f, "{} -> name={}", conditions.join(" "), self.workload.name)?;
        if let Some(container) = &self.workload.container {
            write!(f, " container={container}")?;
        }
        self.workload.attributes.iter().try_for_each(|attribute| write!(f, " {}={}", attribute.key, attribute.value))
    }
}
