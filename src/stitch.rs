//! Which trace a call belongs to. Pure.
//!
//! Today's ladder has one rung and its alternative: a context that came with the call is continued, else a new trace
//! starts. Runs, turns and tools will be found here; callers see only [`Placement`].

use rand::Rng;

use crate::call::{Evidence, Meta};
use crate::trace::propagation::{self, Carrier, ContextPolicy, Handling, Incoming, Propagators, ot};
use crate::trace::sampler::Sampler;
use crate::trace::{Placement, SpanLink};

/// Fixes the ids of a call before its headers are written. `headers` is the context that they carry, `evidence` what its body
/// says.
pub fn place(
    headers: &Incoming,
    evidence: Option<&Evidence>,
    handling: Handling,
    propagators: Propagators,
    sampler: &Sampler,
    rng: &mut impl Rng,
) -> Placement {
    // An MCP client's own span, which knows more of the call than the one that its HTTP client may have made.
    let meta = evidence.and_then(|evidence| evidence.meta.as_ref()).map(|meta| propagators.extract(meta));
    let meta = meta.filter(|meta| meta.context().is_some());
    let incoming = meta.as_ref().unwrap_or(headers);
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
    if handling.context != ContextPolicy::Ignore
        && let (Some(meta), Some(headers)) = (meta.as_ref().and_then(Incoming::context), headers.context())
        && meta.trace_id != headers.trace_id
    {
        placement.links.push(SpanLink::from(headers));
    }
    placement
}

impl Carrier for Meta {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        let value = match name {
            "traceparent" => &*self.traceparent,
            "tracestate" => &self.tracestate,
            "baggage" => &self.baggage,
            _ => "",
        };
        (!value.is_empty()).then_some(value.as_bytes()).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn placed(context: ContextPolicy, trusted: bool) -> Placement {
        let mut map = HeaderMap::new();
        map.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse().unwrap());
        map.insert("tracestate", "a=1,ot=th:c".parse().unwrap());
        let incoming = Propagators::default().extract(&map);
        let handling = Handling { context, trusted, inject: true };
        place(&incoming, None, handling, Propagators::default(), &Sampler::default(), &mut rand::rng())
    }

    #[test]
    fn the_context_in_mcp_meta_wins_over_the_headers_which_another_trace_is_linked_to() {
        let mut map = HeaderMap::new();
        map.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
        let headers = Propagators::default().extract(&map);
        let placed = |traceparent: &str, context, propagators| {
            let meta = Meta { traceparent: traceparent.into(), tracestate: "m=1".into(), baggage: "".into() };
            let evidence = Evidence { meta: Some(meta), ..Evidence::default() };
            let handling = Handling { context, ..Handling::default() };
            place(&headers, Some(&evidence), handling, propagators, &Sampler::default(), &mut rand::rng())
        };
        let (all, other) = (Propagators::default(), "00-00000000000000000000000000000001-0000000000000002-00");
        let spans =
            |placement: &Placement| -> Vec<_> { placement.links.iter().map(|link| link.span_id.to_string()).collect() };
        let continued = placed(other, ContextPolicy::Continue, all);
        assert_eq!(continued.trace_id, 1_u128.into());
        assert_eq!(continued.parent, Some(2_u64.into()));
        assert_eq!((continued.flags.to_u8(), &*continued.tracestate), (0, "m=1"));
        assert_eq!(spans(&continued), ["00f067aa0ba902b7"]);
        let same = placed("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000002-01", ContextPolicy::Continue, all);
        assert_eq!((same.parent, spans(&same).len()), (Some(2_u64.into()), 0));
        let linked = placed(other, ContextPolicy::Link, all);
        assert_eq!((linked.parent, spans(&linked)), (None, vec!["0000000000000002".into(), "00f067aa0ba902b7".into()]));
        let ignored = placed(other, ContextPolicy::Ignore, all);
        assert_eq!((ignored.parent, ignored.links.len()), (None, 0));
        for (traceparent, propagators) in [("nonsense", all), (other, Propagators::NONE)] {
            let of_headers = placed(traceparent, ContextPolicy::Continue, propagators);
            assert_eq!(of_headers.parent.unwrap().to_string(), "00f067aa0ba902b7");
        }
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
            let (decision, sampler) = (Incoming::Decision(false), Sampler::default());
            let placement = place(&decision, None, handling, Propagators::default(), &sampler, &mut rand::rng());
            assert_eq!((placement.flags.to_u8(), placement.links.len()), (flags, 0));
        }
    }
}
