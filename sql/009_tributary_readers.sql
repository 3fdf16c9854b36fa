-- Whose each view is that readers are shown, or were, or may be: a dataflow that was made anew has views of its own, which take the names
-- of those that are read when it is promoted, and give them back. A view's UUID goes with it.
CREATE TABLE IF NOT EXISTS tributary_readers
(
    view_uuid UUID,
    object    String,
    dataflow  String,
    at        DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(at)
ORDER BY view_uuid
