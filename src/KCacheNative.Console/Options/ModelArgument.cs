using System.CommandLine;

namespace KCacheNative.Console.Options;

/// <summary>The argument MODEL: a GGUF file, or `demo` for the model that travels inside the program.</summary>
internal static class ModelArgument
{
    internal const string Demo = "demo";

    /// <summary>MODEL where it must be given.</summary>
    internal static Argument<string> Required() => new("MODEL")
    {
        Description = $"A GGUF file, or `{Demo}` for the embedded demonstration model",
    };

    /// <summary>MODEL where the demonstration model is meant if nothing is said.</summary>
    internal static Argument<string> DemoByDefault() => new("MODEL")
    {
        Description = $"A GGUF file, or `{Demo}` for the embedded demonstration model",
        Arity = ArgumentArity.ZeroOrOne,
        DefaultValueFactory = _ => Demo,
    };
}
