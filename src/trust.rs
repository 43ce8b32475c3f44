//! What makes the agent's runtime trust us: bundles and stores in a folder, and the variables that point to them. No TLS here.
