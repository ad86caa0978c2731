namespace KCacheNative.Engine;

/// <summary>How far a prompt has come. A prompt runs in windows of tokens, each through all layers.</summary>
/// <param name="DoneTokens">Tokens of the windows that are complete.</param>
/// <param name="TotalTokens">Tokens of the whole prompt.</param>
/// <param name="WindowTokens">Tokens of the window that is running; 0 between windows.</param>
/// <param name="DoneLayers">Layers that this window has been through.</param>
/// <param name="TotalLayers">Layers of the model.</param>
public readonly record struct PromptProgress(int DoneTokens, int TotalTokens, int WindowTokens, int DoneLayers, int TotalLayers)
{
    /// <summary>The share of the prompt that is done, 0 to 1.</summary>
    public double Fraction => TotalTokens == 0 ? 1 : (DoneTokens + ((double)WindowTokens * DoneLayers / TotalLayers)) / TotalTokens;
}
