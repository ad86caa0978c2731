using System.Runtime.InteropServices;
using System.Text.Json;
using KCacheNative.Console.Evaluation;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Agreement;

/// <summary>
/// A process of its own for each backend, since a process has one native library and one instruction set: it runs the demonstration model
/// through all cases and writes the logits of every step.
/// <code>dotnet KCacheNative.Tests.dll BACKEND LOGITS IDS</code>
/// IDS is written with the greedy tokens where it does not exist; else its tokens are fed, so that all backends see the same text.
/// </summary>
internal static class AgreementProgram
{
    private static int Main(string[] args)
    {
        if (args is not [string backend, string logitsFile, string idsFile])
        {
            System.Console.Error.WriteLine("usage: dotnet KCacheNative.Tests.dll BACKEND LOGITS IDS");
            return 2;
        }

        using var file = GgufFile.Open(TestEnvironment.DemoModelPath);
        using var context = new ComputeContext(new ContextOptions { Backend = Enum.Parse<Backend>(backend), Activations = Activations.F32 });
        using var model = new LlamaModel(context, file, AgreementCases.PromptTokens);
        // pieces of a few rows, so that every matrix is cut
        if (context.CuBlas is { } cuBlas)
            cuBlas.MostScratchBytes = 1 << 17;
        bool isFirst = !File.Exists(idsFile);
        var ids = new int[AgreementCases.All.Length][];
        if (!isFirst)
            ids = [.. MemoryMarshal.Cast<byte, int>(File.ReadAllBytes(idsFile)).ToArray().Chunk(AgreementCases.Steps)];
        using var logits = File.Create(logitsFile);
        var caches = Array.ConvertAll(AgreementCases.All, c => new KvCache(context, model.Config.CacheShape, c.Policy, AgreementCases.Cache));
        var first = RunPrompts(model, caches);
        for (int i = 0; i < caches.Length; i++)
        {
            var rows = isFirst ? Greedy(model, caches[i], first[i], out ids[i]) : Forced(model, caches[i], first[i], ids[i]);
            foreach (float[] row in rows)
                logits.Write(MemoryMarshal.AsBytes(row.AsSpan()));
            caches[i].Dispose();
        }

        if (isFirst)
            File.WriteAllBytes(idsFile, MemoryMarshal.AsBytes<int>(ids.SelectMany(row => row).ToArray()).ToArray());
        System.Console.WriteLine($"cuBLAS {context.CuBlasVersion}");
        return 0;
    }

    /// <summary>The logits behind the prompt, by case. What attends exactly to everything shares one run; `window` does not.</summary>
    private static float[][] RunPrompts(LlamaModel model, KvCache[] caches)
    {
        using var golden = JsonDocument.Parse(File.ReadAllText(TestEnvironment.Demo("golden/golden.json")));
        int[] prompt = [.. golden.RootElement.GetProperty("plain").GetProperty("ids").EnumerateArray()
            .Select(id => id.GetInt32()).TakeLast(AgreementCases.PromptTokens)];
        int[] sequences = Array.ConvertAll(caches, cache => cache.CreateSequence());
        var rows = new float[caches.Length][];
        bool Shares(int i) => AgreementCases.All[i].Policy.Kind is PolicyKind.KCache or PolicyKind.Sketch;
        for (int i = 0; i < caches.Length; i++)
        {
            if (Shares(i))
                continue;
            int[] sharing = i == 0 ? [.. Enumerable.Range(1, caches.Length - 1).Where(Shares)] : [];
            var batch = new ForwardBatch(prompt.Length);
            batch.Add(sequences[i], prompt, EntryKind.Prompt, LogitRows.Last);
            model.Forward(caches[i], batch, copies: Array.ConvertAll(sharing, other => new PromptCopy(caches[other], sequences[other])));
            foreach (int other in sharing.Append(i))
                rows[other] = model.Logits.Row(0).ToArray();
        }

        return rows;
    }

    private static List<float[]> Greedy(LlamaModel model, KvCache cache, float[] first, out int[] ids)
    {
        List<float[]> rows = [first];
        var chosen = new List<int>();
        var batch = new ForwardBatch(1);
        while (true)
        {
            chosen.Add(NextTokenDistribution.ArgMax(rows[^1]));
            if (chosen.Count == AgreementCases.Steps)
                break;
            batch.Clear();
            batch.Add(0, [chosen[^1]], EntryKind.Decode, LogitRows.Last);
            model.Forward(cache, batch);
            rows.Add(model.Logits.Row(0).ToArray());
        }

        ids = [.. chosen];
        return rows;
    }

    /// <summary>All steps in one forward: the bits of one step each, and sooner done where the device is made of software.</summary>
    private static List<float[]> Forced(LlamaModel model, KvCache cache, float[] first, int[] ids)
    {
        List<float[]> rows = [first];
        var batch = new ForwardBatch(AgreementCases.Steps);
        batch.Add(0, ids.AsSpan(0, AgreementCases.Steps - 1), EntryKind.Decode, LogitRows.All);
        model.Forward(cache, batch, (_, logits) =>
        {
            for (int i = 0; i < logits.Rows; i++)
                rows.Add(logits.Row(i).ToArray());
        });
        return rows;
    }
}
