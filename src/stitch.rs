//! Which trace a call belongs to. Pure.
//!
//! Today's ladder has one rung and its alternative: a context that came with the call is continued, else a new trace
//! starts. Runs, turns and tools will be found here; callers see only [`Placement`].

use rand::Rng;

use crate::trace::propagation::{self, ContextPolicy, Handling, Incoming, ot};
use crate::trace::sampler::Sampler;
use crate::trace::{Placement, SpanLink};

/// Fixes the ids of a call before its headers are written.
pub fn place(incoming: &Incoming, handling: Handling, sampler: &Sampler, rng: &mut impl Rng) -> Placement {
    let followed = if handling.context == ContextPolicy::Continue { incoming } else { &Incoming::Nothing };
    let mut placement = match followed.context() {
        Some(context) => propagation::proceed(context, rng),
        None => propagation::start(rng),
    };
    sampler.decide(followed, placement.trace_id).apply(&mut placement);
    if !handling.trusted {
        placement.tracestate = ot::only_own(&placement.tracestate);
    }
    if handling.context == ContextPolicy::Link {
        placement.links.extend(incoming.context().map(SpanLink::from));
    }
    placement
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::trace::propagation::Propagators;

    fn placed(context: ContextPolicy, trusted: bool) -> Placement {
        let mut map = HeaderMap::new();
        map.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse().unwrap());
        map.insert("tracestate", "a=1,ot=th:c".parse().unwrap());
        let incoming = Propagators::default().extract(&map);
        let handling = Handling { context, trusted, inject: true };
        place(&incoming, handling, &Sampler::default(), &mut rand::rng())
    }

    #[test]
    fn a_context_is_continued_linked_or_ignored() {
        let continued = placed(ContextPolicy::Continue, true);
        assert_eq!(continued.parent.unwrap().to_string(), "00f067aa0ba902b7");
        assert_eq!((continued.flags.to_u8(), &*continued.tracestate), (0, "a=1,ot=th:c"));
        assert_eq!(continued.links, []);
        let linked = placed(ContextPolicy::Link, true);
        assert_eq!((linked.parent, linked.flags.to_u8(), &*linked.tracestate), (None, 3, ""));
        assert_eq!(linked.links.len(), 1);
        assert_eq!(linked.links[0].trace_id, continued.trace_id);
        assert_eq!(linked.links[0].span_id.to_string(), "00f067aa0ba902b7");
        assert_eq!((linked.links[0].flags.to_u8(), &*linked.links[0].tracestate), (0, "a=1,ot=th:c"));
        let ignored = placed(ContextPolicy::Ignore, true);
        assert_eq!((ignored.parent, ignored.flags.to_u8(), ignored.links.len()), (None, 3, 0));
        assert_ne!(ignored.trace_id, continued.trace_id);
    }

    #[test]
    fn a_foreign_state_stays_inside_the_trust_boundary() {
        assert_eq!(&*placed(ContextPolicy::Continue, false).tracestate, "ot=th:c");
    }

    #[test]
    fn a_decision_without_ids_is_honoured_unless_it_is_to_be_ignored() {
        for (context, flags) in [(ContextPolicy::Continue, 2), (ContextPolicy::Link, 3), (ContextPolicy::Ignore, 3)] {
            let handling = Handling { context, ..Handling::default() };
            let placement = place(&Incoming::Decision(false), handling, &Sampler::default(), &mut rand::rng());
            assert_eq!((placement.flags.to_u8(), placement.links.len()), (flags, 0));
        }
    }
}
