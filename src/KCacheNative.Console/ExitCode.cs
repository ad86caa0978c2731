namespace KCacheNative.Console;

/// <summary>What the process returns. All lie below 126, which shells keep for themselves.</summary>
internal static class ExitCode
{
    /// <summary>Everything asked for was done.</summary>
    internal const int Success = 0;

    /// <summary>Something could not be done: a damaged model, a missing file, no memory ...</summary>
    internal const int Failure = 1;

    /// <summary>The call itself is wrong: an unknown option, a value out of range ...</summary>
    internal const int Usage = 2;

    /// <summary>Ctrl-C or a termination signal stopped it; what was finished until then has been printed.</summary>
    internal const int Cancelled = 3;
}
