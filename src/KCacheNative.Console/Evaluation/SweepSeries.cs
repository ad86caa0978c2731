using KCacheNative.Runtime;

namespace KCacheNative.Console.Evaluation;

/// <summary>A line of a sweep.</summary>
/// <param name="Name">For the legend.</param>
/// <param name="Settings">In the order in which the line joins them.</param>
internal sealed record SweepSeries(string Name, IReadOnlyList<SweepSetting> Settings);

/// <summary>A point of a sweep before it is measured.</summary>
/// <param name="Label">What tells it from the others of its line.</param>
/// <param name="Policy">The setting.</param>
internal sealed record SweepSetting(string Label, CachePolicy Policy);
